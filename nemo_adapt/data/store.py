"""Megatron's indexed dataset, put together from pieces that several processes wrote: NAME.bin and NAME.idx."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.workers import Seen

NARROW_IDS = 1 << 16
"""Below so many ids a token takes 16 bits, from there on 32: a wider id in 16 bits would wrap without a word."""
TOKENS, LENGTHS = "{:06}.bin", "{:06}.npy"
"""Files of a piece: its tokens, and how many each document has (int32)."""


def token_dtype(vocabulary: int) -> type[np.uint16] | type[np.int32]:
    """The type of tokens whose ids lie below ``vocabulary``."""
    return np.uint16 if vocabulary < NARROW_IDS else np.int32


def join(folder: Path, numbers: Sequence[int], target: Path, dtype: type[Any], seen: Seen) -> None:
    """Append the pieces ``numbers`` of ``folder`` in this order to ``target``.bin, and write ``target``.idx.

    Each piece is removed as soon as it is appended, so that the disk holds one piece twice and no more. ``seen`` is
    called with bytes.
    """
    lengths = [np.load(folder / LENGTHS.format(number), allow_pickle=False) for number in numbers]
    first, *others = (folder / TOKENS.format(number) for number in numbers)
    whole = target.with_suffix(".bin")
    seen(first.stat().st_size)
    first.rename(whole)
    with whole.open("ab") as out:
        for path in others:
            with path.open("rb") as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
            seen(path.stat().st_size)
            path.unlink()
    write_index(target.with_suffix(".idx"), np.concatenate(lengths), dtype)
    shutil.rmtree(folder)


def write_index(path: Path, lengths: NDArray[np.int32], dtype: type[Any]) -> None:
    """Megatron's index of documents of one sequence each, by its own writer.

    As shipped (indexed_dataset.py) that adds lengths up one by one in a Python list.
    """
    from megatron.core.datasets.indexed_dataset import _IndexWriter

    class Writer(_IndexWriter):
        def _sequence_pointers(self, sequence_lengths: Any) -> Any:
            sizes = np.asarray(sequence_lengths, np.int64) * np.dtype(dtype).itemsize
            return np.cumsum(sizes) - sizes

    with Writer(str(path), dtype) as writer:
        writer.write(lengths, None, np.arange(len(lengths) + 1))
