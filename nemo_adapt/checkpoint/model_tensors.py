"""The tensors of a family's table as chunks to write, and what of them a checkpoint has, whoever wrote it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from nemo_adapt.checkpoint.box import Box
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.writer import NewChunk
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, TABLES, Entry
from nemo_adapt.partition import blocks


def chunks_of(
    entry: Entry, layers: int, dtype: torch.dtype, chunk_bytes: int, make: Callable[[Box], torch.Tensor]
) -> Iterator[NewChunk]:
    """Yield a tensor in chunks of whole rows, each at most ``chunk_bytes`` (or one row); ``make`` computes one.

    A stacked tensor has its ``layers`` as first dimension, and no chunk spans two of them.
    """
    shape, row_shape = entry.global_shape(layers), entry.shape[1:]
    row_bytes = torch.Size(row_shape).numel() * dtype.itemsize
    for layer in range(layers) if entry.stacked else [None]:
        for start, stop in blocks(0, entry.shape[0], row_bytes, chunk_bytes):
            box = Box.of_rows(start, stop, row_shape, layer)
            yield NewChunk(entry.key, shape, box, dtype, partial(make, box))


def copied_chunks(opened: Checkpoint, table: list[Entry], layers: int, chunk_bytes: int) -> Iterator[NewChunk]:
    """Yield all tensors of ``table`` in such chunks, with the values of a checkpoint, without its padded rows."""
    for entry in table:
        yield from chunks_of(entry, layers, opened.dtypes[entry.key], chunk_bytes, partial(opened.read, entry.key))


def open_checkpoint(folder: Path, table: list[Entry], layers: int) -> Checkpoint:
    """Open a checkpoint; ``UserError`` for a tensor of ``table`` that it does not have, or has in another shape.

    Those with a row for each token may have more rows, which are padding.
    """
    opened = Checkpoint(folder)
    for entry in table:
        shape, wanted = opened.shapes.get(entry.key), entry.global_shape(layers)
        if shape is None:
            raise UserError(f"{opened.folder}: tensor {entry.key} is missing; is it a checkpoint of this model?")
        padded = entry.key in TABLES and shape[1:] == wanted[1:] and shape[0] >= wanted[0]
        if shape != wanted and not padded:
            raise UserError(f"{opened.folder}: tensor {entry.key} is {shape}, but the model's is {wanted}")
    return opened


def rows_beyond(opened: Checkpoint, rows: int) -> int:
    """Return how many rows the input table has if there are more than ``rows``, and the first of the others is not
    zero, as our padding is; else 0."""
    held = opened.shapes.get(EMBEDDING, (rows,))[0]
    return held if held > rows and opened.rows(EMBEDDING, rows, rows + 1).count_nonzero() else 0
