"""Sum weighted source rows in float32: each product and sum is rounded, in the plan's order, on every device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nemo_adapt.machine.compiled import compiled
from nemo_adapt.resize.table import Indices

UPPER_BITS = {torch.bfloat16: (torch.int16, 16), torch.float32: (torch.int32, 0)}
"""Dtypes that are the upper bits of a float32: the integer dtype of that size, and the number of missing bits."""
STRETCH = 1024
"""Columns summed together: 8 KB of sums and terms."""


@dataclass(frozen=True)
class Terms:
    """Terms of a portion: two tables of source rows, each term's index into both concatenated, and its weight."""

    local: torch.Tensor
    remote: torch.Tensor
    indices: Indices
    weights: npt.NDArray[np.float32]

    def add_to(self, made: torch.Tensor, ends: Indices) -> None:
        """Add ``weight * row`` to ``made[i]`` for the terms ``ends[i]`` to ``ends[i + 1]``, one by one."""
        if made.device.type == "cpu" and self.local.dtype in UPPER_BITS:
            integers, shift = UPPER_BITS[self.local.dtype]
            local, remote = (table.view(integers).numpy() for table in (self.local, self.remote))
            _add(made.numpy(), local, remote, shift, self.indices, self.weights, ends)
        else:
            self._add_by_torch(made, ends)

    def _add_by_torch(self, made: torch.Tensor, ends: Indices) -> None:
        """Add the first terms of all rows, then the second ones, ...: few operations, each on many rows."""
        lengths = np.diff(ends)
        for term in range(int(lengths.max(initial=0))):
            still = np.flatnonzero(lengths > term)
            entries, index = ends[still] + term, torch.from_numpy(still).to(made.device)
            rows = self._rows(torch.from_numpy(self.indices[entries]).to(made.device)).float()
            factors = torch.from_numpy(self.weights[entries]).to(made.device)
            # Not fused: a fused multiply-add rounds only once, and only on some devices.
            made[index] = made[index] + rows.mul_(factors[:, None])

    def _rows(self, indices: torch.Tensor) -> torch.Tensor:
        if not len(self.remote):
            return self.local.index_select(0, indices)
        rows, is_remote = self.local.new_empty((len(indices), self.local.shape[1])), indices >= len(self.local)
        rows[~is_remote] = self.local.index_select(0, indices[~is_remote])
        rows[is_remote] = self.remote.index_select(0, indices[is_remote] - len(self.local))
        return rows


@compiled
def _add(
    made: npt.NDArray[np.float32], local: npt.NDArray[np.signedinteger], remote: npt.NDArray[np.signedinteger],
    shift: int, indices: Indices, weights: npt.NDArray[np.float32], ends: Indices,
) -> None:  # fmt: skip
    """Add to one stretch of a row after the other, so that it stays in the core's cache; indices are not checked."""
    columns = made.shape[1]
    bits = np.empty(STRETCH, dtype=np.int32)
    numbers = bits.view(np.float32)
    for row in range(len(made)):
        for begin in range(0, columns, STRETCH):
            target = made[row, begin : begin + STRETCH]
            for term in range(ends[row], ends[row + 1]):
                index, weight = indices[term], weights[term]
                source = (local[index] if index < len(local) else remote[index - len(local)])[begin : begin + STRETCH]
                for column in range(len(target)):
                    bits[column] = np.int32(source[column]) << shift
                for column in range(len(target)):
                    target[column] += weight * numbers[column]
