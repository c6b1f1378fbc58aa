"""Where the rows of a source table come from: a tensor cut over the ranks of a tensor-parallel group.

Nobody gathers the table. The engine and its statistics know only the few methods of ``Source``; ``stored.py`` has the
other one, a table on disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

EXCHANGE_BYTES = 8 << 20
"""Most bytes of rows that a rank receives, and most that it gives away, in one exchange."""
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
    def room(self) -> int:
        """Most rows that ``gather`` may be asked for at once."""
        ...

    def own(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """This process's rows below row ``count`` in blocks: the number of a block's first row, and the rows."""
        ...

    def copy(self, start: int, out: torch.Tensor) -> None:
        """Copy the rows from ``start`` on into ``out``."""
        ...

    def gather(self, wanted: Numbers) -> tuple[torch.Tensor, Numbers]:
        """A tensor that holds the rows ``wanted`` (any order, repeats allowed), and where in it each of them is."""
        ...

    def agree(self, value: torch.Tensor, largest: bool = False) -> torch.Tensor:
        """Sum (or largest) of ``value`` over all ranks, in place."""
        ...


def most(source: Source, number: int) -> int:
    """The largest ``number`` of any rank, so that all take part in as many exchanges."""
    return int(source.agree(torch.tensor([number], device=source.like.device), largest=True))


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
    def first(self) -> int:
        """Number of this rank's first row."""
        return self.bounds[0 if self.group is None else dist.get_rank(self.group)]

    @property
    def room(self) -> int:
        """As many rows that no rank has to give more than ``EXCHANGE_BYTES``, should all ask the same one."""
        if self.group is None:
            return self.total  # nothing is copied
        row_bytes = self.rows.shape[1] * self.rows.element_size()
        return max(1, EXCHANGE_BYTES // (row_bytes * (len(self.bounds) - 1)))

    def own(self, count: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """This rank's rows below ``count``, block by block."""
        mine = self.rows[: max(0, count - self.first)]
        step = max(1, block_bytes // (mine.shape[1] * mine.element_size()))
        for begin in range(0, len(mine), step):
            yield self.first + begin, mine[begin : begin + step]

    def copy(self, start: int, out: torch.Tensor) -> None:
        """Own rows are copied straight, the others fetched in portions."""
        stop = start + len(out)
        low, high = (min(max(bound, start), stop) for bound in (self.first, self.first + len(self.rows)))
        out[low - start : high - start] = self.rows[low - self.first : high - self.first]
        if self.group is None:
            return
        others = np.concatenate([np.arange(start, low), np.arange(high, stop)]).astype(np.int64)
        for begin in range(0, most(self, len(others)), self.room):
            wanted = others[begin : begin + self.room]
            out[torch.from_numpy(wanted - start).to(out.device)] = self._fetch(wanted)

    def gather(self, wanted: Numbers) -> tuple[torch.Tensor, Numbers]:
        """Alone, the table itself; else a copy of the distinct rows."""
        if self.group is None:
            return self.rows, wanted
        distinct, places = np.unique(wanted, return_inverse=True)
        return self._fetch(distinct), places

    def agree(self, value: torch.Tensor, largest: bool = False) -> torch.Tensor:
        """An all-reduce over the group."""
        if self.group is not None:
            dist.all_reduce(value, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM, group=self.group)
        return value

    def _fetch(self, wanted: Numbers) -> torch.Tensor:
        """Rows ``wanted`` (ascending) from whoever holds them: [len(wanted), columns]."""
        asked = torch.from_numpy(np.diff(np.searchsorted(wanted, self.bounds))).to(self.rows.device)
        given = torch.empty_like(asked)
        dist.all_to_all_single(given, asked, group=self.group)
        ask_counts, give_counts = asked.tolist(), given.tolist()
        names = torch.empty(sum(give_counts), dtype=torch.int64, device=self.rows.device)
        ids = torch.from_numpy(np.ascontiguousarray(wanted)).to(self.rows.device)
        dist.all_to_all_single(names, ids, give_counts, ask_counts, group=self.group)
        answer = self.rows.new_empty((len(wanted), self.rows.shape[1]))
        dist.all_to_all_single(answer, self.rows[names - self.first], ask_counts, give_counts, group=self.group)
        return answer
