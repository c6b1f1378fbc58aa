"""A source table in a safetensors file, of which one process reads a few rows at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.partition import blocks, rows_in
from nemo_adapt.resize import table
from nemo_adapt.resize.table import Gathered, Indices, Wait

HELD_BYTES = 32 << 20
"""Bytes of source rows held at once."""


@dataclass(frozen=True)
class StoredTable:
    """The two-dimensional tensor ``name`` of a model folder (a vector counts as one column). See ``table.Source``."""

    weights: HfWeights
    name: str

    @property
    def total(self) -> int:
        """Rows of the table."""
        return self.weights.tensors[self.name].shape[0]

    @property
    def like(self) -> torch.Tensor:
        """An empty tensor of the stored dtype, on the CPU."""
        stored = self.weights.tensors[self.name]
        return torch.empty((0, stored.row_elements), dtype=stored.dtype)

    @property
    def ranks(self) -> int:
        """Always 1: one process reads the table."""
        return 1

    @property
    def rank(self) -> int:
        """Always 0."""
        return 0

    @property
    def max_rows(self) -> int:
        """Number of rows in ``HELD_BYTES``."""
        return rows_in(HELD_BYTES, self._row_bytes)

    def local_blocks(self, count: int, block_bytes: int = table.BLOCK_BYTES) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield all rows below ``count``, block by block."""
        for start, stop in blocks(0, count, self._row_bytes, block_bytes):
            yield start, self.weights.rows(self.name, start, stop).view(stop - start, -1)

    def copy(self, start: int, out: torch.Tensor) -> Wait:
        """Read the rows from ``start`` on into ``out``."""
        self.weights.read(self.name, start, start + len(out), out)
        return table.no_wait

    def gather(self, wanted: Sequence[Indices]) -> Gathered:
        """Read the distinct rows, consecutive ones together."""
        distinct, places = np.unique(wanted[0], return_inverse=True)
        held = self.like.new_empty((len(distinct), self.like.shape[1]))
        cuts = np.flatnonzero(np.diff(distinct) != 1) + 1
        for begin, end in zip([0, *cuts], [*cuts, len(distinct)], strict=True):
            if end > begin:
                self.weights.read(self.name, int(distinct[begin]), int(distinct[end - 1]) + 1, held[begin:end])
        return held, self.like, places

    def bounds_of(self, start: int, stop: int) -> tuple[int, ...]:
        """Return the range: there is only one process."""
        return start, stop

    def redistribute(self, rows: torch.Tensor, held: Sequence[int], out: torch.Tensor, wanted: Sequence[int]) -> Wait:
        """Do nothing: one process makes rows where they are wanted."""
        return table.no_wait

    def all_reduce(self, value: torch.Tensor, maximum: bool = False) -> torch.Tensor:
        """Return ``value``: there is only one process."""
        return value

    @property
    def _row_bytes(self) -> int:
        return self.like.shape[1] * self.like.element_size()
