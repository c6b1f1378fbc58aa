"""Freezing what a phase does not train: it stays bit-identical, without gradients or optimizer state.

Kept rows and new rows share one parameter; for phases that train only new rows, ``new_rows`` makes them a separate one.
"""

from collections.abc import Iterator
from typing import Any

import torch

from nemo_adapt.config.phases import ALL, EMBEDDINGS, Trained
from nemo_adapt.model.tables import tables_of

MARKS = "main_grad", "grad_added_to_main_grad"
"""Attributes that Megatron's data-parallel wrapper sets on a parameter: its part of the gradient buffer, and whether a
fused matrix product has already added to it."""


def freeze(model: Any, what: Trained) -> None:
    """Enable gradients for exactly what ``what`` names (new rows: see ``new_rows``), and clear leftover gradients."""
    ours = {id(parameter) for parameter in chosen(model, what)}
    for parameter in model.parameters():
        parameter.requires_grad_(ALL in what.kinds or id(parameter) in ours)
        parameter.grad = None
        for name in MARKS:
            parameter.__dict__.pop(name, None)


def chosen(model: Any, what: Trained) -> Iterator[torch.nn.Parameter]:
    """Yield this rank's parameters of the tables and layers that ``what`` names (not for ``all`` and ``new_rows``)."""
    for each in tables_of(model):
        if EMBEDDINGS in what.kinds or each.table in what.kinds:
            yield each.shard
    for layer in model.decoder.layers:
        if layer.layer_number - 1 in what.layers:  # counted from 1, over all pipeline stages
            yield from layer.parameters()
