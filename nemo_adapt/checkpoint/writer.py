"""Write a ``torch_dist`` checkpoint lazily: each piece is computed when it is written, and freed at once.

The format is PyTorch's distributed checkpoint (torch/distributed/checkpoint/filesystem.py) with Megatron's
``common.pt`` and ``metadata.json`` next to it.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from nemo_adapt.artifact import write_json
from nemo_adapt.checkpoint.integrity import COMMON

BACKEND = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}


@dataclass(frozen=True)
class Piece:
    """A box of a tensor, and the function that computes it."""

    key: str
    tensor_size: tuple[int, ...]
    """Size of the whole tensor."""
    offset: tuple[int, ...]
    size: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return torch.Size(self.size).numel() * self.dtype.itemsize


FILE_BYTES = 1 << 30
"""Target size of a file: the unit of work of a process, and the most that is repeated after an interruption."""


def files(pieces: list[Piece], file_bytes: int = FILE_BYTES) -> list[list[Piece]]:
    """Cut the pieces, in order, into files of about ``file_bytes``; each is written by one process.

    ``ValueError`` if the pieces do not cover their tensors exactly once.
    """
    _check_cover(pieces)
    found: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        if found[-1] and size + piece.bytes > file_bytes:
            found.append([])
            size = 0
        found[-1].append(piece)
        size += piece.bytes
    return found


def write_file(folder: Path, number: int, pieces: list[Piece], done: Callable[[float], None]) -> None:
    """Write one file unless it exists, with a note next to it of the offset and length of each piece.

    One piece is in memory at a time. The file is renamed when it is complete, so that an interrupted run continues with
    the next. ``done`` is called with the bytes of each piece.
    """
    name, note = f"__{number}_0.distcp", _note(folder, number)
    if note.is_file():
        done(sum(piece.bytes for piece in pieces))
        return
    extents = []
    unfinished = folder / f"{name}.tmp"
    with unfinished.open("wb", buffering=1 << 20) as stream, _without_checksums():
        for piece in pieces:
            begin = stream.tell()
            torch.save(piece.make(), stream)
            extents.append([begin, stream.tell() - begin])
            done(piece.bytes)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / name)
    write_json(note, extents)


def finish(
    folder: Path,
    files: list[list[Piece]],
    common: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> None:
    """Turn the written files into a checkpoint that ``megatron.core.dist_checkpointing.load`` reads at any TP and PP.

    ``common``: what every rank loads alike. ``objects``: key -> an object besides the model's tensors, for
    ``torch.save``.
    """
    results, notes = [], []
    for number, pieces in enumerate(files):
        notes.append(_note(folder, number))
        extents = json.loads(notes[-1].read_text(encoding="utf-8"))
        for piece, (offset, length) in zip(pieces, extents, strict=True):
            where = _StorageInfo(f"__{number}_0.distcp", offset, length)
            results.append(WriteResult(_write_item_of(piece).index, length, where))
    items = [_write_item_of(piece) for pieces in files for piece in pieces]
    if objects:
        items += [WriteItem(MetadataIndex(key), WriteItemType.BYTE_IO) for key in objects]
        results += _write_objects(folder / f"__{len(files)}_0.distcp", objects)
    _, metadata = create_default_global_save_plan([SavePlan(items)])
    torch.save(dict(common or {}), folder / COMMON)
    (folder / "metadata.json").write_text(json.dumps(BACKEND), encoding="utf-8")
    FileSystemWriter(folder).finish(metadata, [results])
    for note in notes:
        note.unlink()


def _write_objects(file: Path, objects: Mapping[str, Any]) -> list[WriteResult]:
    results = []
    with file.open("wb") as stream:
        for key, value in objects.items():
            begin = stream.tell()
            torch.save([value], stream)  # Megatron stores the objects of a key as a list
            length = stream.tell() - begin
            results.append(WriteResult(MetadataIndex(key), length, _StorageInfo(file.name, begin, length)))
    return results


@contextlib.contextmanager
def _without_checksums() -> Iterator[None]:
    """Make ``torch.save`` leave out the CRC-32 of its zip records, on which it would spend most of its time.

    Nothing reads them: ``torch.load`` does not.
    """
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def _note(folder: Path, number: int) -> Path:
    return folder / f"__{number}_0.json"


def _write_item_of(piece: Piece) -> WriteItem:
    chunk = ChunkStorageMetadata(torch.Size(piece.offset), torch.Size(piece.size))
    data = TensorWriteData(chunk, TensorProperties(dtype=piece.dtype), torch.Size(piece.tensor_size))
    return WriteItem(MetadataIndex(piece.key, torch.Size(piece.offset)), WriteItemType.SHARD, tensor_data=data)


def _check_cover(pieces: list[Piece]) -> None:
    """Raise ``ValueError`` unless the pieces cover all tensors exactly once, by their sizes and distinct offsets."""
    covered: dict[str, int] = {}
    whole: dict[str, int] = {}
    for piece in pieces:
        whole[piece.key] = torch.Size(piece.tensor_size).numel()
        covered[piece.key] = covered.get(piece.key, 0) + torch.Size(piece.size).numel()
    wrong = [key for key in whole if covered[key] != whole[key]]
    if wrong or len({(piece.key, piece.offset) for piece in pieces}) != len(pieces):
        raise ValueError(f"pieces do not cover {', '.join(wrong) or 'their tensors'} exactly once")
