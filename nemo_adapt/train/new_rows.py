"""New rows as separate parameters, so that the gradient buffer and the optimizer hold nothing for kept rows.

In a phase of ``new_rows`` each table shard gets a ``NewRows`` module: the optimizer trains its ``rows``, it receives
the table's gradients during the backward pass, and after a step its rows are copied back into the table.
"""

from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing import ShardedTensor

from nemo_adapt.families.family import OUTPUT_BIAS
from nemo_adapt.model.tables import TableShard, tables_of
from nemo_adapt.patches.weight_gradients import sums_of_rows

NAME = "new_rows"
"""Prefix of the names of these child modules, and of their keys in a checkpoint."""


@dataclass(frozen=True)
class RowRange:
    """The new rows of the whole table: from ``first`` up to, but not including, ``stop``."""

    first: int
    stop: int


class NewRows(torch.nn.Module):
    """Rows ``first`` to ``stop`` of a table's shard, in its dtype; the shard begins at the whole table's row ``start``.

    A shard without new rows has one too, with ``rows`` = ``None``: all TP ranks must compute the gradients of their
    shards in the same way, with the same communication.
    """

    rows: torch.nn.Parameter | None

    def __init__(self, table: torch.nn.Parameter, key: str, new: RowRange, start: int) -> None:
        super().__init__()
        self.key, self.new = key, new
        self.first, self.stop = max(0, new.first - start), min(len(table), new.stop - start)
        self.offset = start + self.first - new.first
        self.table = (table,)  # in a tuple, so that it is not registered as a parameter here
        self.rows = None
        if self.first < self.stop:
            self.rows = torch.nn.Parameter(table.detach()[self.first : self.stop].clone())
            self.rows.__dict__.update(table.__dict__)  # Megatron's marks: TP shard, tied over stages
            # Gives the parameter a bucket of its own in the gradient buffer. TP ranks differ in their number of new
            # rows, but other parameters must lie at the same places on them: Megatron sums the gradients of copied
            # parameters over TP ranks after each DP rank has received its share of a bucket.
            self.rows.shared_embedding = True  # type: ignore[attr-defined]
        self.hook: Any = None

    def receive_gradients(self) -> None:
        """Start receiving the table's gradients; optimizer and gradient buffer have to be built before, without it."""
        table = self.table[0]
        table.requires_grad_(True)
        none = torch.empty(0, device=table.device)
        sums = none if self.rows is None else self.rows.main_grad  # type: ignore[attr-defined]
        table.main_grad = sums_of_rows(sums, self.first)  # type: ignore[attr-defined]
        self.hook = table.register_post_accumulate_grad_hook(self._add_gradient)

    def _add_gradient(self, table: torch.Tensor) -> None:
        """Add the new rows' part of one backward pass's gradient to their sum, and drop the rest."""
        if self.rows is not None and table.grad is not None:
            self.rows.main_grad.add_(table.grad[self.first : self.stop])  # type: ignore[attr-defined]
        table.grad = None

    def copy_back(self) -> None:
        """Copy the trained rows back into the table."""
        if self.rows is not None:
            with torch.no_grad():
                self.table[0][self.first : self.stop].copy_(self.rows)

    def sharded_state_dict(self, prefix: str = "", *unused: Any, **also_unused: Any) -> dict[str, Any]:
        """Return the rows as a shard of one tensor of all new rows, so that they load at any TP."""
        if self.rows is None:
            return {}
        # Megatron's replica numbers of a table: which of the two copies of a tied one, then TP, then DP.
        copy = int(getattr(self.rows, "shared", False))
        replica = (copy, 0, parallel_state.get_data_parallel_rank(with_context_parallel=True))
        shape = tuple(self.rows.shape)
        whole = (self.new.stop - self.new.first, *shape[1:])
        offset = (self.offset, *(0 for _ in shape[1:]))
        piece = ShardedTensor(f"{NAME}.{self.key}", self.rows, self.rows.dtype, shape, whole, offset, None, replica)
        return {f"{prefix}rows": piece}


def attach(model: Any, new: RowRange) -> list[NewRows]:
    """Add a ``NewRows`` to ``model`` for each of this rank's tables, and return them."""
    found = []
    for each in tables_of(model):
        start = parallel_state.get_tensor_model_parallel_rank() * len(each.shard)
        rows = NewRows(each.shard, name_of(each), new, start)
        model.add_module(f"{NAME}_{rows.key}", rows)
        found.append(rows)
    return found


def name_of(shard: TableShard) -> str:
    """Return the name of a table's new rows, or of those of an output bias, in module names and checkpoint keys."""
    return f"{shard.table}_bias" if shard.key == OUTPUT_BIAS else shard.table


def detach(model: Any, attached: list[NewRows]) -> None:
    """Undo ``attach``; the tables keep the trained rows."""
    for rows in attached:
        if getattr(model, f"{NAME}_{rows.key}", None) is rows:
            rows.hook.remove()
            delattr(model, f"{NAME}_{rows.key}")
