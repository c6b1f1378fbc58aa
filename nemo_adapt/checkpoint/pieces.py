"""A family's tensors as pieces to write, and those of a checkpoint, without padded rows, whoever wrote it."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.writer import Piece
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, TABLES, Entry

Make = Callable[[tuple[int, ...], tuple[int, ...]], torch.Tensor]
"""Makes the piece with an offset and a size."""


def cut(entry: Entry, layers: int, dtype: torch.dtype, chunk_bytes: int, make: Make) -> Iterator[Piece]:
    """Yield a tensor of a family's table in pieces of whole rows, each at most ``chunk_bytes`` (or one row).

    A stacked tensor has its ``layers`` as first dimension, and no piece spans two of them.
    """
    rest = entry.shape[1:]
    step = max(1, chunk_bytes // (torch.Size(rest).numel() * dtype.itemsize))
    whole = (layers, *entry.shape) if entry.stacked else entry.shape
    for layer in range(layers if entry.stacked else 1):
        for start in range(0, entry.shape[0], step):
            offset, size = (start, *(0 for _ in rest)), (min(step, entry.shape[0] - start), *rest)
            if entry.stacked:
                offset, size = (layer, *offset), (1, *size)
            yield Piece(entry.key, whole, offset, size, dtype, partial(make, offset, size))


def pieces(opened: Checkpoint, table: list[Entry], layers: int, chunk_bytes: int) -> Iterator[Piece]:
    """Yield the tensors of ``table`` in pieces of at most ``chunk_bytes`` (but at least one row), without padded rows.

    ``UserError`` for a tensor that is missing or has another shape.
    """
    for entry in table:
        check(opened, entry, layers)
        yield from cut(entry, layers, opened.dtypes[entry.key], chunk_bytes, partial(opened.read, entry.key))


def check(opened: Checkpoint, entry: Entry, layers: int) -> None:
    """Raise ``UserError`` unless the checkpoint has the tensor; tables may have more rows, which are padding."""
    size = opened.sizes.get(entry.key)
    if size is None:
        raise UserError(f"{opened.folder}: tensor {entry.key} is missing; is it a checkpoint of this model?")
    wanted = (layers, *entry.shape) if entry.stacked else entry.shape
    padded = entry.key in TABLES and size[1:] == wanted[1:] and size[0] >= wanted[0]
    if size != wanted and not padded:
        raise UserError(f"{opened.folder}: tensor {entry.key} is {size}, but the model's is {wanted}")


def rows_beyond(opened: Checkpoint, rows: int) -> int:
    """Return how many rows the input table has if there are more than ``rows``, and the first of the others is not
    zero, as our padding is; else 0."""
    held = opened.sizes.get(EMBEDDING, (rows,))[0]
    return held if held > rows and opened.rows(EMBEDDING, rows, rows + 1).count_nonzero() else 0
