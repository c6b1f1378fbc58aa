"""What a phase does not train stays bit by bit: frozen parameters get no gradient, kept rows one of zero.

Kept rows and new rows lie in one parameter. With a gradient of zero, Adam's moments of a kept row stay zero and so does
its step, as long as there is no weight decay (``setup``).
"""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core import parallel_state

from nemo_adapt.phases import ALL


def tables(model: Any) -> list[torch.nn.Parameter]:
    """This rank's shards of the input and output tables: none, one or two."""
    found = [model.embedding.word_embeddings.weight] if model.pre_process else []
    if model.post_process and model.output_layer.weight is not None:  # None where it shares the first stage's
        found.append(model.output_layer.weight)
    return found


def freeze(model: Any, trained: str) -> None:
    """Let only what ``trained`` (``phases.KINDS``) names take gradients. Forgets what a phase before left behind."""
    ours = {id(table) for table in tables(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(trained == ALL or id(parameter) in ours)
        parameter.grad = None
        if hasattr(parameter, "main_grad"):
            del parameter.main_grad  # it would keep the last phase's gradient buffer


def without_kept_rows(finalize: Callable[..., None], model: Any, kept: int) -> Callable[..., None]:
    """Megatron's ``finalize_model_grads``, and then zero for the gradients of the first ``kept`` rows of each table."""
    rank = parallel_state.get_tensor_model_parallel_rank()
    found = [(table, max(0, min(len(table), kept - rank * len(table)))) for table in tables(model)]

    def finalize_new_rows(*arguments: Any, **named: Any) -> None:
        finalize(*arguments, **named)
        for table, rows in found:
            table.main_grad[:rows].zero_()  # type: ignore[attr-defined]

    return finalize_new_rows
