"""Where the rows of a source table come from: a tensor cut over the ranks of a tensor-parallel group.

Nobody gathers the table. The engine and its statistics know only the few methods of ``Source``; ``stored.py`` has the
other one, a table on disk.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

EXCHANGE_BYTES = 8 << 20
"""Most bytes of rows that a rank gives away in one exchange; small enough for a core's cache."""
BLOCK_BYTES = 1 << 20
"""Rows are worked on in blocks of this size, which stay in a core's cache."""

Numbers = npt.NDArray[np.int64]


class Source(Protocol):
    """A source table as the engine sees it. All methods but ``own`` are collective: every rank calls them alike."""

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
        """How many processes hold the table."""
        ...

    @property
    def rank(self) -> int:
        """Which of them this one is."""
        ...

    @property
    def room(self) -> int:
        """Most different rows that a rank may ask ``gather`` for, and that it may make, before ``deal``."""
        ...

    def own(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """This process's rows below row ``count`` in blocks: the number of a block's first row, and the rows."""
        ...

    def copy(self, start: int, out: torch.Tensor) -> None:
        """Copy the rows from ``start`` on into ``out``; what the ranks ask for follows one another."""
        ...

    def gather(self, wanted: Sequence[Numbers]) -> tuple[torch.Tensor, Numbers]:
        """A tensor that holds the rows that this rank wants, and where in it each of them is.

        ``wanted``: by rank, rows in any order, repeats allowed; every rank knows what all want.
        """
        ...

    def bounds_of(self, start: int, stop: int) -> tuple[int, ...]:
        """All ranks' ranges ``start`` to ``stop``, which follow one another: where each begins, and the last's end."""
        ...

    def deal(self, rows: torch.Tensor, held: Sequence[int], out: torch.Tensor, wanted: Sequence[int]) -> None:
        """Rows (of any table) lie on the ranks by the bounds ``held``; set ``out`` to those by the bounds ``wanted``.

        Of ``out`` only what is held by anyone is set.
        """
        ...

    def agree(self, value: torch.Tensor, largest: bool = False) -> torch.Tensor:
        """Sum (or largest) of ``value`` over all ranks, in place."""
        ...


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
        """Number in the group."""
        return 0 if self.group is None else dist.get_rank(self.group)

    @property
    def first(self) -> int:
        """Number of this rank's first row."""
        return self.bounds[self.rank]

    @property
    def room(self) -> int:
        """As many rows that no rank has to give more than ``EXCHANGE_BYTES``, should all ask the same one."""
        if self.group is None:
            return self.total  # nothing is copied
        row_bytes = self.rows.shape[1] * self.rows.element_size()
        return max(1, EXCHANGE_BYTES // (row_bytes * self.ranks))

    def own(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """This rank's rows below ``count``, block by block."""
        mine = self.rows[: max(0, count - self.first)]
        step = max(1, block_bytes // (mine.shape[1] * mine.element_size()))
        for begin in range(0, len(mine), step):
            yield self.first + begin, mine[begin : begin + step]

    def copy(self, start: int, out: torch.Tensor) -> None:
        """Straight from the shards that hold the rows."""
        self.deal(self.rows, self.bounds, out, self.bounds_of(start, start + len(out)))

    def gather(self, wanted: Sequence[Numbers]) -> tuple[torch.Tensor, Numbers]:
        """Alone, the table itself; else a copy of the distinct rows, in one exchange."""
        if self.group is None:
            return self.rows, wanted[0]
        distinct = [np.unique(rows) for rows in wanted]
        cuts = [np.searchsorted(rows, self.bounds) for rows in distinct]
        asked = [rows[ends[self.rank] : ends[self.rank + 1]] for rows, ends in zip(distinct, cuts, strict=True)]
        places = torch.from_numpy(np.concatenate(asked) - self.first).to(self.rows.device)
        mine = distinct[self.rank]
        held = self.rows.new_empty((len(mine), self.rows.shape[1]))
        self._exchange(held, np.diff(cuts[self.rank]), self.rows.index_select(0, places), [len(rows) for rows in asked])
        return held, np.searchsorted(mine, wanted[self.rank])

    def bounds_of(self, start: int, stop: int) -> tuple[int, ...]:
        """What all ranks say."""
        if self.group is None:
            return start, stop
        said = torch.zeros((self.ranks, 2), dtype=torch.int64, device=self.rows.device)
        said[self.rank] = torch.tensor([start, stop])
        ranges = self.agree(said).tolist()
        if any(one[1] != following[0] for one, following in itertools.pairwise(ranges)):
            raise ValueError(f"the ranks' ranges of rows do not follow one another: {ranges}")
        return ranges[0][0], *(stop for _, stop in ranges)

    def deal(self, rows: torch.Tensor, held: Sequence[int], out: torch.Tensor, wanted: Sequence[int]) -> None:
        """One exchange, without a copy of the rows; alone, a copy."""
        begin, end = held[self.rank], held[self.rank + 1]
        start, stop = wanted[self.rank], wanted[self.rank + 1]
        gives, takes = _overlaps(begin, end, wanted), _overlaps(start, stop, held)
        given, taken = max(wanted[0] - begin, 0), max(held[0] - start, 0)
        rows, out = rows[given : given + sum(gives)], out[taken : taken + sum(takes)]
        if self.group is None:
            out.copy_(rows)
        else:
            self._exchange(out, takes, rows, gives)

    def agree(self, value: torch.Tensor, largest: bool = False) -> torch.Tensor:
        """An all-reduce over the group."""
        if self.group is not None:
            dist.all_reduce(value, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=self.group)
        return value

    def _exchange(self, out: torch.Tensor, takes: Iterable[int], rows: torch.Tensor, gives: Iterable[int]) -> None:
        """Rows to every rank and from every rank, so many each."""
        dist.all_to_all_single(out, rows, list(map(int, takes)), list(map(int, gives)), group=self.group)


def _overlaps(begin: int, end: int, bounds: Sequence[int]) -> list[int]:
    """How many of the rows ``begin`` to ``end`` lie in each of the ranges that meet at ``bounds``."""
    return [max(0, min(end, high) - max(begin, low)) for low, high in itertools.pairwise(bounds)]
