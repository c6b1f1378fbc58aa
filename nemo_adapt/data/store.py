"""Megatron's indexed dataset NAME.bin and NAME.idx, joined from pieces that several processes wrote.

A piece is two files: its tokens, and a note that is renamed to its name once both are complete. So what is left after
an interruption, even a loss of power, is known to be whole.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nemo_adapt.console.progress import OnProgress
from nemo_adapt.errors import UserError

NARROW_IDS = 1 << 16
"""Vocabularies smaller than this use 16 bits per token, others 32: a larger id would silently wrap in 16 bits."""
TOKENS, NOTE = "{:06}.bin", "{:06}.npz"
"""Files of a piece: tokens; the number of tokens of each document (``lengths``, int32) and the ``bytes`` of text."""
SYNC_BYTES = 256 << 20
"""Pieces are deleted once this much of them has been appended and is on disk."""


def token_dtype(vocabulary: int) -> type[np.uint16] | type[np.int32]:
    """Return the dtype for token ids below ``vocabulary``."""
    return np.uint16 if vocabulary < NARROW_IDS else np.int32


def write_note(folder: Path, number: int, lengths: Sequence[int], size: int) -> None:
    """Record that the tokens of a piece are complete: ``lengths`` of its documents, ``size`` of its text in bytes."""
    note = folder / NOTE.format(number)
    unfinished = note.with_suffix(".tmp")
    with unfinished.open("wb") as stream:
        np.savez(stream, lengths=np.asarray(lengths, np.int32), bytes=size)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(note)


def has_piece(folder: Path, number: int) -> bool:
    """Return whether a piece has been written, also if it has been joined since."""
    return (folder / NOTE.format(number)).is_file()


def read_lengths(folder: Path, number: int) -> NDArray[np.int32]:
    """Return the number of tokens of each document of a piece."""
    with np.load(folder / NOTE.format(number), allow_pickle=False) as note:
        return np.asarray(note["lengths"])


def counts(folder: Path, number: int) -> dict[str, int]:
    """Return the numbers of documents, of tokens and of bytes of text of a piece."""
    with np.load(folder / NOTE.format(number), allow_pickle=False) as note:
        lengths, size = note["lengths"], int(note["bytes"])
    return {"documents": len(lengths), "tokens": int(lengths.sum(dtype=np.int64)), "bytes": size}


def join(folder: Path, numbers: Sequence[int], target: Path, dtype: type[Any], on_progress: OnProgress) -> None:
    """Join the pieces ``numbers`` of ``folder`` in this order into ``target``.bin, and write ``target``.idx.

    Pieces are deleted once they are appended and on disk, so that at most ``SYNC_BYTES`` and a piece are there twice.
    An interrupted join goes on with the first piece that is left. ``on_progress`` is called with the bytes of each.
    """
    pieces = [folder / TOKENS.format(number) for number in numbers]
    lengths = partial(map, partial(read_lengths, folder), numbers)
    whole = target.with_suffix(".bin")
    if not whole.exists():
        pieces[0].rename(whole)
    end, appended, unsynced = 0, [], 0
    with whole.open("ab") as out:
        for path, each in zip(pieces, lengths(), strict=True):
            size = int(each.sum(dtype=np.int64)) * np.dtype(dtype).itemsize
            if path.is_file():
                _check_length(out.seek(0, os.SEEK_END) >= end, target)
                out.truncate(end)  # cuts off what an interrupted join had appended of this piece and of later ones
                with path.open("rb") as piece:
                    shutil.copyfileobj(piece, out, 1 << 20)
                appended.append(path)
                unsynced += size
            end += size
            if unsynced >= SYNC_BYTES:
                _delete(appended, out)
                unsynced = 0
            on_progress(size)
        _delete(appended, out)
        _check_length(out.seek(0, os.SEEK_END) == end, target)
    write_index(target.with_suffix(".idx"), lengths, dtype)


def _delete(appended: list[Path], out: BinaryIO) -> None:
    """Delete pieces that have been appended to ``out``, once that is on disk."""
    out.flush()
    os.fsync(out.fileno())
    for path in appended:
        path.unlink()
    appended.clear()


def _check_length(is_right: bool, target: Path) -> None:
    if not is_right:
        raise UserError(f"{target.parent} is damaged: delete it and run the same command")


def write_index(path: Path, lengths: Callable[[], Iterable[NDArray[np.int32]]], dtype: type[Any]) -> None:
    """Write Megatron's index of documents of one sequence each, a piece at a time: a corpus has 1e9 documents.

    Each call of ``lengths`` gives the documents' numbers of tokens anew, in as many arrays as there are pieces. The
    format is that of ``_IndexWriter`` in megatron-core's indexed_dataset.py, which takes all of them at once and keeps
    a list of all offsets.
    """
    from megatron.core.datasets.indexed_dataset import _IndexWriter

    count, begin = sum(map(len, lengths())), 0
    with _IndexWriter(str(path), dtype) as writer:  # writes the header
        out = writer.idx_writer
        out.write(struct.pack("<QQ", count, count + 1))
        for each in lengths():
            out.write(each)
        for each in lengths():
            ends = np.cumsum(each, dtype=np.int64)
            out.write((begin + ends - each) * np.dtype(dtype).itemsize)
            begin += int(each.sum(dtype=np.int64))
        for at in range(0, count + 1, 1 << 20):
            out.write(np.arange(at, min(at + (1 << 20), count + 1)))
