"""Megatron's indexed dataset NAME.bin and NAME.idx, joined from pieces that several processes wrote."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.console.progress import OnProgress

NARROW_IDS = 1 << 16
"""Vocabularies smaller than this use 16 bits per token, others 32: a larger id would silently wrap in 16 bits."""
TOKENS, LENGTHS = "{:06}.bin", "{:06}.npy"
"""Files of a piece: its tokens, and the number of tokens of each document (int32)."""


def token_dtype(vocabulary: int) -> type[np.uint16] | type[np.int32]:
    """Return the dtype for token ids below ``vocabulary``."""
    return np.uint16 if vocabulary < NARROW_IDS else np.int32


def join(folder: Path, numbers: Sequence[int], target: Path, dtype: type[Any], on_progress: OnProgress) -> None:
    """Join the pieces ``numbers`` of ``folder`` in this order into ``target``.bin, and write ``target``.idx.

    Each piece is deleted once it is appended, so that at most one piece is on disk twice; ``folder`` is deleted at the
    end. ``on_progress`` is called with the bytes of each piece.
    """
    lengths = [np.load(folder / LENGTHS.format(number), allow_pickle=False) for number in numbers]
    first, *others = (folder / TOKENS.format(number) for number in numbers)
    whole = target.with_suffix(".bin")
    on_progress(first.stat().st_size)
    first.rename(whole)
    with whole.open("ab") as out:
        for path in others:
            with path.open("rb") as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
            on_progress(path.stat().st_size)
            path.unlink()
    write_index(target.with_suffix(".idx"), np.concatenate(lengths), dtype)
    shutil.rmtree(folder)


def write_index(path: Path, lengths: NDArray[np.int32], dtype: type[Any]) -> None:
    """Write Megatron's index of documents of one sequence each, with Megatron's own writer.

    Sequence offsets are computed with numpy; the writer's own method (indexed_dataset.py) loops in Python.
    """
    from megatron.core.datasets.indexed_dataset import _IndexWriter

    class Writer(_IndexWriter):
        def _sequence_pointers(self, sequence_lengths: Any) -> Any:
            sizes = np.asarray(sequence_lengths, np.int64) * np.dtype(dtype).itemsize
            return np.cumsum(sizes) - sizes

    with Writer(str(path), dtype) as writer:
        writer.write(lengths, None, np.arange(len(lengths) + 1))
