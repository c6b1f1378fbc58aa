"""The source of a table's rows: here, a tensor sharded over the ranks of a tensor-parallel group.

No rank gathers the whole table. The engine and its statistics use only the methods of ``Source``; ``stored.py`` has the
other implementation, a table on disk.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from nemo_adapt.partition import blocks, rows_in

EXCHANGE_BYTES = 16 << 20
"""Most bytes of rows that a rank sends in one exchange; small enough for a core's cache."""
BLOCK_BYTES = 1 << 20
"""Rows are processed in blocks of this size, which stay in a core's cache."""

Indices = npt.NDArray[np.int64]
Gathered = tuple[torch.Tensor, torch.Tensor, Indices]
"""Rows in memory: two tables, and the index of each wanted row in their concatenation."""
Wait = Callable[[], None]
"""Waits for what has begun; until it returns, none of the tensors may be changed or read."""


class Source(Protocol):
    """A source table as the engine sees it. All methods but ``local_blocks`` are collectives."""

    @property
    def total(self) -> int:
        """Rows of the whole table."""
        ...

    @property
    def like(self) -> torch.Tensor:
        """An empty tensor [0, columns] of the table's dtype and device."""
        ...

    @property
    def ranks(self) -> int:
        """Number of processes that hold the table."""
        ...

    @property
    def rank(self) -> int:
        """Rank of this process among them."""
        ...

    @property
    def max_rows(self) -> int:
        """Most distinct rows that a rank may ``gather`` at once, and most that it may make before ``redistribute``."""
        ...

    def local_blocks(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield this process's rows below row ``count`` in blocks: the index of a block's first row, and the rows."""
        ...

    def copy(self, start: int, out: torch.Tensor) -> Wait:
        """Begin to copy the rows from ``start`` on into ``out``; the ranges of the ranks must be consecutive."""
        ...

    def gather(self, wanted: Sequence[Indices]) -> Gathered:
        """Return the rows that this rank wants.

        ``wanted``: by rank, row indices in any order, repeats allowed; every rank passes what all ranks want.
        """
        ...

    def bounds_of(self, start: int, stop: int) -> tuple[int, ...]:
        """Return where each rank's range ``start`` to ``stop`` begins, and the last one's end; they are consecutive."""
        ...

    def redistribute(self, rows: torch.Tensor, held: Sequence[int], out: torch.Tensor, wanted: Sequence[int]) -> Wait:
        """Begin to redistribute ``rows`` (of any table), sharded by bounds ``held``, to ``out``, sharded by ``wanted``.

        Rows of ``out`` that no rank holds are not set.
        """
        ...

    def all_reduce(self, value: torch.Tensor, maximum: bool = False) -> torch.Tensor:
        """Return the sum (or maximum) of ``value`` over all ranks, computed in place."""
        ...


def no_wait() -> None:
    """Do nothing: the ``Wait`` of a transfer that is already complete."""


@dataclass(frozen=True)
class ShardedTable:
    """This rank's ``rows`` of a source table; rank r of ``group`` holds rows ``bounds[r]`` to ``bounds[r + 1]``.

    ``group`` is None for a table that this process holds alone.
    """

    rows: torch.Tensor
    bounds: tuple[int, ...]
    group: Any = None

    @property
    def total(self) -> int:
        """Rows of the whole table."""
        return self.bounds[-1]

    @property
    def like(self) -> torch.Tensor:
        """An empty tensor like the rows."""
        return self.rows[:0]

    @property
    def ranks(self) -> int:
        """Size of the group."""
        return len(self.bounds) - 1

    @property
    def rank(self) -> int:
        """Rank in the group."""
        return 0 if self.group is None else dist.get_rank(self.group)

    @property
    def first(self) -> int:
        """Index of this rank's first row."""
        return self.bounds[self.rank]

    @property
    def max_rows(self) -> int:
        """Rows so few that no rank sends over ``EXCHANGE_BYTES``, even if all ranks want rows of the same one."""
        if self.group is None:
            return self.total  # nothing is copied
        return rows_in(EXCHANGE_BYTES, self.rows.shape[1] * self.rows.element_size() * self.ranks)

    def local_blocks(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield this rank's rows below ``count``, block by block."""
        mine = self.rows[: max(0, count - self.first)]
        for start, stop in blocks(0, len(mine), mine.shape[1] * mine.element_size(), block_bytes):
            yield self.first + start, mine[start:stop]

    def copy(self, start: int, out: torch.Tensor) -> Wait:
        """Receive directly from the shards that hold the rows."""
        return self.redistribute(self.rows, self.bounds, out, self.bounds_of(start, start + len(out)))

    def gather(self, wanted: Sequence[Indices]) -> Gathered:
        """Return own rows without a copy, and the distinct rows of other ranks from one all-to-all."""
        if self.group is None:
            return self.rows, self.like, wanted[0]
        distinct = [np.unique(rows) for rows in wanted]
        cuts = [np.searchsorted(rows, self.bounds) for rows in distinct]
        low, high = cuts[self.rank][self.rank : self.rank + 2]
        others = np.concatenate([distinct[self.rank][:low], distinct[self.rank][high:]])
        takes = np.diff(cuts[self.rank])
        takes[self.rank] = 0
        asked = [rows[ends[self.rank] : ends[self.rank + 1]] for rows, ends in zip(distinct, cuts, strict=True)]
        asked[self.rank] = asked[self.rank][:0]
        given = torch.from_numpy(np.concatenate(asked) - self.first).to(self.rows.device)
        fetched = self.rows.new_empty((len(others), self.rows.shape[1]))
        rows = self.rows.index_select(0, given)
        dist.all_to_all_single(fetched, rows, takes.tolist(), [len(one) for one in asked], group=self.group)
        own, there = wanted[self.rank] - self.first, np.searchsorted(others, wanted[self.rank])
        is_own = (own >= 0) & (own < len(self.rows))
        return self.rows, fetched, np.where(is_own, own, len(self.rows) + there)

    def bounds_of(self, start: int, stop: int) -> tuple[int, ...]:
        """All-reduce the ranges of all ranks; ``ValueError`` if they are not consecutive."""
        if self.group is None:
            return start, stop
        said = torch.zeros((self.ranks, 2), dtype=torch.int64, device=self.rows.device)
        said[self.rank] = torch.tensor([start, stop])
        ranges = self.all_reduce(said).tolist()
        if any(one[1] != following[0] for one, following in itertools.pairwise(ranges)):
            raise ValueError(f"the ranks' ranges of rows do not follow one another: {ranges}")
        return ranges[0][0], *(stop for _, stop in ranges)

    def redistribute(self, rows: torch.Tensor, held: Sequence[int], out: torch.Tensor, wanted: Sequence[int]) -> Wait:
        """Send directly from one tensor to the other, all ranks at the same time."""
        transfers = []
        for rank in range(self.ranks):
            gives = rows[_part(held, self.rank, wanted, rank)]
            takes = out[_part(wanted, self.rank, held, rank)]
            if rank == self.rank:
                takes.copy_(gives)  # does nothing if they are the same memory
                continue
            peer = dist.get_global_rank(self.group, rank)
            for way, part in ((dist.isend, gives), (dist.irecv, takes)):
                transfers += [dist.P2POp(way, part, peer, self.group)] if len(part) else []
        begun = dist.batch_isend_irecv(transfers) if transfers else []

        def wait() -> None:
            for transfer in begun:
                transfer.wait()

        return wait

    def all_reduce(self, value: torch.Tensor, maximum: bool = False) -> torch.Tensor:
        """All-reduce over the group."""
        if self.group is not None:
            dist.all_reduce(value, dist.ReduceOp.MAX if maximum else dist.ReduceOp.SUM, group=self.group)
        return value


def _part(bounds: Sequence[int], rank: int, others: Sequence[int], other: int) -> slice:
    """Return the slice of ``rank``'s rows (by ``bounds``) that ``other`` has by ``others``."""
    begin, end = max(bounds[rank], others[other]), min(bounds[rank + 1], others[other + 1])
    return slice(begin - bounds[rank], max(begin, end) - bounds[rank])
