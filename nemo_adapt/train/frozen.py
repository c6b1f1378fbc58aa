"""What a phase does not train stays bit by bit: frozen parameters get no gradient and no place in the optimizer.

Kept rows and new rows lie in one parameter; where new rows alone are trained, ``new_rows`` makes them one of their own.
"""

from collections.abc import Iterator
from typing import Any

import torch

from nemo_adapt.model.tables import tables_of
from nemo_adapt.phases import ALL, EMBEDDINGS, Trained

MARKS = "main_grad", "grad_added_to_main_grad"
"""What Megatron's data-parallel wrapper leaves on a parameter: its part of the phase's gradient buffer, and whether a
product has added to it."""


def freeze(model: Any, what: Trained) -> None:
    """Let only what ``what`` names take gradients, new rows apart. Forgets what a phase before left behind."""
    ours = {id(parameter) for parameter in _chosen(model, what)}
    for parameter in model.parameters():
        parameter.requires_grad_(ALL in what.kinds or id(parameter) in ours)
        parameter.grad = None
        for name in MARKS:
            parameter.__dict__.pop(name, None)


def _chosen(model: Any, what: Trained) -> Iterator[torch.nn.Parameter]:
    """The parameters of the tables and layers that ``what`` names, on this rank."""
    for held in tables_of(model):
        if EMBEDDINGS in what.kinds or held.table in what.kinds:
            yield held.shard
    for layer in model.decoder.layers:
        if layer.layer_number - 1 in what.layers:  # Megatron counts from 1, over all stages
            yield from layer.parameters()
