"""A table cut into row ranges over the ranks of a tensor-parallel group: fetch named rows, exact statistics.

Nobody gathers the table. Sums over rows are made in integers, so that they do not depend on how the rows are cut.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

EXCHANGE_BYTES = 32 << 20
"""Most bytes that a rank asks for, and so receives, in one exchange."""
SUM_BITS = 62
"""Bits of a signed 64-bit sum that may be used."""


@dataclass(frozen=True)
class ShardedTable:
    """This rank's ``rows`` of a source table of ``total`` rows; rank r of ``group`` holds ``bounds[r]:bounds[r+1]``.

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
    def first(self) -> int:
        """Number of this rank's first row."""
        return self.bounds[0 if self.group is None else dist.get_rank(self.group)]

    def chunk(self) -> int:
        """How many rows fit into one exchange."""
        return max(1, EXCHANGE_BYTES // (self.rows.shape[1] * self.rows.element_size()))

    def fetch(self, wanted: np.ndarray) -> torch.Tensor:
        """Rows ``wanted`` (row numbers, ascending) from whoever holds them: [len(wanted), hidden].

        A collective: every rank of the group calls it, each with its own list, empty ones included.
        """
        if self.group is None:
            return self.rows[torch.from_numpy(wanted).to(self.rows.device)]
        cuts = np.searchsorted(wanted, self.bounds)
        asked = torch.from_numpy(np.diff(cuts)).to(self.rows.device)
        given = torch.empty_like(asked)
        dist.all_to_all_single(given, asked, group=self.group)
        ask_counts, give_counts = asked.tolist(), given.tolist()
        names = torch.empty(sum(give_counts), dtype=torch.int64, device=self.rows.device)
        ids = torch.from_numpy(np.ascontiguousarray(wanted, dtype=np.int64)).to(self.rows.device)
        dist.all_to_all_single(names, ids, give_counts, ask_counts, group=self.group)
        answer = self.rows.new_empty((len(wanted), self.rows.shape[1]))
        dist.all_to_all_single(answer, self.rows[names - self.first], ask_counts, give_counts, group=self.group)
        return answer

    def most(self, number: int) -> int:
        """The largest ``number`` of any rank, so that all take part in as many exchanges."""
        if self.group is None:
            return number
        value = torch.tensor([number], device=self.rows.device)
        dist.all_reduce(value, dist.ReduceOp.MAX, group=self.group)
        return int(value)

    def mean_and_std(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and (population) standard deviation per column of the first ``count`` rows, float64.

        The same bits however the table is cut. A collective.
        """
        values = self.rows[: max(0, count - self.first)].double()
        mean = self._sum(values) / count
        return mean, (self._sum((values - mean) ** 2) / count).sqrt()

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Column sums of ``values`` (float64) over all ranks, in fixed point: integer sums have no order."""
        largest = values.abs().max() if values.numel() else values.new_zeros(())
        if self.group is not None:
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self.group)
        if not largest:
            return values.sum(0)
        exponent = SUM_BITS - 1 - math.ceil(math.log2(float(largest))) - math.ceil(math.log2(self.total))
        sums = torch.round(values * 2.0**exponent).to(torch.int64).sum(0)
        if self.group is not None:
            dist.all_reduce(sums, group=self.group)
        return sums.double() / 2.0**exponent
