"""Add weighted source rows to new ones: float32, product and sum rounded each, in the plan's order, on every device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nemo_adapt.compiled import compiled
from nemo_adapt.resize.table import Numbers

WHOLE_BITS = {torch.bfloat16: (torch.int16, 16), torch.float32: (torch.int32, 0)}
"""Dtypes that are the upper bits of a float32: the integers of that size, and how many bits are missing."""


@dataclass(frozen=True)
class Terms:
    """Terms of a portion: the source rows that are held, where among them each term's is, and its weight."""

    held: torch.Tensor
    places: Numbers
    weights: npt.NDArray[np.float32]

    def add_to(self, made: torch.Tensor, begins: Numbers, lengths: Numbers) -> None:
        """``made[i] += weight * row`` for ``lengths[i]`` (falling) terms from ``begins[i]`` on, one by one."""
        if made.device.type == "cpu" and self.held.dtype in WHOLE_BITS:
            whole, missing = WHOLE_BITS[self.held.dtype]
            _add(made.numpy(), self.held.view(whole).numpy(), missing, self.places, self.weights, begins, lengths)
        else:
            self._add_by_torch(made, begins, lengths)

    def _add_by_torch(self, made: torch.Tensor, begins: Numbers, lengths: Numbers) -> None:
        """The first terms of all rows, then the second ones, ...: few operations, each on many rows."""
        for term in range(int(lengths.max(initial=0))):
            count = int(np.searchsorted(-lengths, -term, side="left"))
            entries = begins[:count] + term
            index = torch.from_numpy(self.places[entries]).to(made.device)
            factors = torch.from_numpy(self.weights[entries]).to(made.device)
            # A fused product and sum would be rounded once, and only on some devices.
            made[:count] += self.held.index_select(0, index).float().mul_(factors[:, None])


@compiled
def _add(
    made: npt.NDArray[np.float32], held: npt.NDArray[np.signedinteger], missing: int, places: Numbers,
    weights: npt.NDArray[np.float32], begins: Numbers, lengths: Numbers,
) -> None:  # fmt: skip
    """One row after the other, so that it stays in the cache; nothing is checked."""
    columns = made.shape[1]
    bits = np.empty(columns, dtype=np.int32)
    numbers = bits.view(np.float32)
    for row in range(len(begins)):
        for term in range(begins[row], begins[row] + lengths[row]):
            source, weight = held[places[term]], weights[term]
            for column in range(columns):
                bits[column] = np.int32(source[column]) << missing
            for column in range(columns):
                made[row, column] += weight * numbers[column]
