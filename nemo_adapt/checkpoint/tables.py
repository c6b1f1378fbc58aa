"""The two tables of a model on disk, read in blocks of rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, OUTPUT_LAYER
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.partition import blocks

NAMES = {EMBEDDING: "input", OUTPUT_LAYER: "output"}
"""Megatron's key of a table -> its name here. Tied models have only the first."""
BLOCK_BYTES = 32 << 20
"""Largest block of rows, in bytes of float32."""


@dataclass(frozen=True)
class Table:
    """A table [rows, hidden]; ``read(start, stop)`` returns rows in the stored dtype."""

    rows: int
    hidden: int
    read: Callable[[int, int], torch.Tensor]

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield rows ``start`` to ``stop`` in blocks: (index of the first row, rows in float32)."""
        for first, end in blocks(start, stop, 4 * self.hidden, BLOCK_BYTES):
            yield first, self.read(first, end).float()

    def pick(self, ids: list[int]) -> torch.Tensor:
        """Return the rows ``ids``, each read separately: [len(ids), hidden], float32."""
        return torch.cat([self.read(row, row + 1) for row in ids]).float() if ids else torch.zeros(0, self.hidden)


def of_folder(folder: Path) -> dict[str, Table]:
    """Return ``input`` and, if not tied, ``output`` of a Hugging Face folder; ``UserError`` if it cannot be read."""
    family, shape = read_shape(folder)
    weights = HfWeights(folder, family, shape)
    tables = {NAMES[entry.key]: entry.rows[0].name for entry in family.entries(shape) if entry.key in NAMES}
    for name in tables.values():
        if name not in weights.tensors:
            raise UserError(f"{folder}: tensor {name} is missing")
    return {
        table: Table(weights.tensors[name].shape[0], weights.tensors[name].row_elements, partial(weights.rows, name))
        for table, name in tables.items()
    }


def of_checkpoint(folder: Path) -> dict[str, Table]:
    """Return the same of a Megatron checkpoint, padded rows included."""
    opened = Checkpoint(folder)
    return {
        name: Table(opened.shapes[key][0], opened.shapes[key][1], partial(opened.rows, key))
        for key, name in NAMES.items()
        if key in opened.shapes
    }
