"""New rows as parameters of their own, so that the gradient buffer and the optimizer hold nothing for kept rows.

During a phase of ``new_rows`` each shard of a table that has new rows lends them to a ``NewRows``: the optimizer trains
its ``rows``, gradients are handed over as they arise, and after a step the rows are copied back into the table.
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
"""The first part of the names of the child modules that hold them, and of their keys in a checkpoint."""


@dataclass(frozen=True)
class Span:
    """Which rows of the whole table are new: those from ``first`` up to ``stop``."""

    first: int
    stop: int


class NewRows(torch.nn.Module):
    """Rows ``first`` to ``stop`` of one shard of a table, in its dtype; the whole table's row ``start`` comes first.

    A shard without new rows has one too, whose ``rows`` is ``None``: gradients of TP ranks' shards have to be computed
    in the same way, with the same communication.
    """

    rows: torch.nn.Parameter | None

    def __init__(self, table: torch.nn.Parameter, key: str, span: Span, start: int) -> None:
        super().__init__()
        self.key, self.span = key, span
        self.first, self.stop = max(0, span.first - start), min(len(table), span.stop - start)
        self.offset = start + self.first - span.first
        self.table = (table,)  # in a tuple: it is another module's parameter, not one of ours
        self.rows = None
        if self.first < self.stop:
            self.rows = torch.nn.Parameter(table.detach()[self.first : self.stop].clone())
            self.rows.__dict__.update(table.__dict__)  # Megatron's marks: cut over TP, shared by first and last stage
        self.hook: Any = None

    def listen(self) -> None:
        """Take the table's gradients from now on; optimizer and gradient buffer must not have seen that it has any."""
        table = self.table[0]
        table.requires_grad_(True)
        none = torch.empty(0, device=table.device)
        sums = none if self.rows is None else self.rows.main_grad  # type: ignore[attr-defined]
        table.main_grad = sums_of_rows(sums, self.first)  # type: ignore[attr-defined]
        self.hook = table.register_post_accumulate_grad_hook(self._take)

    def _take(self, table: torch.Tensor) -> None:
        """The gradient of one backward pass: the new rows' part is added up, the rest is forgotten."""
        if self.rows is not None and table.grad is not None:
            self.rows.main_grad.add_(table.grad[self.first : self.stop])  # type: ignore[attr-defined]
        table.grad = None

    def put_back(self) -> None:
        """Copy the rows into the table."""
        if self.rows is not None:
            with torch.no_grad():
                self.table[0][self.first : self.stop].copy_(self.rows)

    def sharded_state_dict(self, prefix: str = "", *unused: Any, **also_unused: Any) -> dict[str, Any]:
        """The rows as a part of all new rows, wherever they lie, so that they load at any TP."""
        if self.rows is None:
            return {}
        # As Megatron numbers the replicas of a table: its two copies where it is tied, then TP, then DP.
        copy = int(getattr(self.rows, "shared", False))
        replica = (copy, 0, parallel_state.get_data_parallel_rank(with_context_parallel=True))
        shape = tuple(self.rows.shape)
        whole = (self.span.stop - self.span.first, *shape[1:])
        offset = (self.offset, *(0 for _ in shape[1:]))
        piece = ShardedTensor(f"{NAME}.{self.key}", self.rows, self.rows.dtype, shape, whole, offset, None, replica)
        return {f"{prefix}rows": piece}


def lend(model: Any, span: Span) -> list[NewRows]:
    """Make the new rows of this rank's tables parameters of their own, children of ``model``."""
    found = []
    for held in tables_of(model):
        start = parallel_state.get_tensor_model_parallel_rank() * len(held.shard)
        lent = NewRows(held.shard, name_of(held), span, start)
        model.add_module(f"{NAME}_{lent.key}", lent)
        found.append(lent)
    return found


def name_of(held: TableShard) -> str:
    """By which a table's new rows, or those of an output bias, are known."""
    return f"{held.table}_bias" if held.key == OUTPUT_BIAS else held.table


def give_back(model: Any, lent: list[NewRows]) -> None:
    """Undo ``lend``; the tables hold what was trained."""
    for rows in lent:
        if getattr(model, f"{NAME}_{rows.key}", None) is rows:
            rows.hook.remove()
            delattr(model, f"{NAME}_{rows.key}")
