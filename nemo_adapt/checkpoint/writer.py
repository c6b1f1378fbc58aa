"""Write a ``torch_dist`` checkpoint lazily, in several processes: a chunk is computed when it is written, and freed.

The format is PyTorch's distributed checkpoint (torch/distributed/checkpoint/filesystem.py) with Megatron's
``common.pt`` and ``metadata.json`` next to it.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult

from nemo_adapt.checkpoint.box import Box, Dims
from nemo_adapt.checkpoint.folders import COMMON
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.console.progress import Bar, OnProgress
from nemo_adapt.files import write_json
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.machine.facts import peak_memory_mib
from nemo_adapt.machine.workers import share, shared_counters
from nemo_adapt.partition import groups

BACKEND = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}
FILE_BYTES = 1 << 30
"""Target size of a file: the unit of work of a process, and the most that is repeated after an interruption."""


@dataclass(frozen=True)
class NewChunk:
    """A chunk to write: a box of tensor ``key``, which has ``global_shape``, and the function that computes it."""

    key: str
    global_shape: Dims
    box: Box
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]

    @property
    def bytes(self) -> int:
        """Its size in bytes."""
        return self.box.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Source:
    """The files of a checkpoint to write, and what they are made of. Every process builds its own identical copy."""

    weights: HfWeights | Checkpoint
    files: list[list[NewChunk]]

    @property
    def bytes(self) -> int:
        """Size of all tensors, in bytes."""
        return sum(chunk.bytes for chunks in self.files for chunk in chunks)

    def write(self, folder: Path, numbers: Iterable[int], on_progress: OnProgress) -> dict[str, int]:
        """Write the files ``numbers`` in this process; return bytes read and peak MiB.

        ``on_progress`` gets MB written.
        """
        for number in numbers:
            write_file(folder, number, self.files[number], lambda size: on_progress(size / 1e6))
        if isinstance(self.weights, HfWeights):
            self.weights.close()
        return {"bytes_read": self.weights.bytes_read, "peak_mib": peak_memory_mib()}


def write_files(
    source: Source, folder: Path, processes: int, title: str, build: Callable[..., Source], *given: Any
) -> dict[str, Any]:
    """Write the files of ``source`` in at most ``processes`` processes; return facts for a manifest: bytes written, the
    number of processes, and for each bytes read and peak MiB.

    ``title``: that of the bar. The other processes build their source by ``build(*given)``.
    """
    jobs = len(source.files)
    with Bar(title, source.bytes / 1e6, "MB") as bar:
        mine = partial(source.write, folder)
        facts = share(jobs, min(processes, jobs), bar, mine, _write_share, folder, build, *given)
    return {"bytes": source.bytes, "processes": len(facts), "per_process": facts}


def _write_share(folder: Path, build: Callable[..., Source], *given: Any) -> dict[str, int]:
    """Write another process's share of the files."""
    source, shared = build(*given), shared_counters()
    return source.write(folder, shared.take(len(source.files)), shared.advance)


def files(chunks: list[NewChunk], file_bytes: int = FILE_BYTES) -> list[list[NewChunk]]:
    """Cut the chunks, in order, into files of about ``file_bytes``; each is written by one process.

    ``ValueError`` if the chunks do not cover their tensors exactly once.
    """
    _check_cover(chunks)
    return groups(chunks, lambda chunk: chunk.bytes, file_bytes)


def write_file(folder: Path, number: int, chunks: list[NewChunk], done: Callable[[float], None]) -> None:
    """Write one file unless it exists, with a note next to it of the offset and length of each chunk.

    One chunk is in memory at a time. The file is renamed when it is complete, so that an interrupted run continues with
    the next. ``done`` is called with the bytes of each chunk.
    """
    name, note = f"__{number}_0.distcp", _note(folder, number)
    if note.is_file():
        done(sum(chunk.bytes for chunk in chunks))
        return
    extents = []
    unfinished = folder / f"{name}.tmp"
    with unfinished.open("wb", buffering=1 << 20) as stream, _without_checksums():
        for chunk in chunks:
            begin = stream.tell()
            torch.save(chunk.make(), stream)
            extents.append([begin, stream.tell() - begin])
            done(chunk.bytes)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / name)
    write_json(note, extents)


def finish(
    folder: Path,
    files: list[list[NewChunk]],
    common: Mapping[str, Any] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> None:
    """Turn the written files into a checkpoint that ``megatron.core.dist_checkpointing.load`` reads at any TP and PP.

    ``common``: what every rank loads alike. ``objects``: key -> an object besides the model's tensors, for
    ``torch.save``.
    """
    results, notes = [], []
    for number, chunks in enumerate(files):
        notes.append(_note(folder, number))
        extents = json.loads(notes[-1].read_text(encoding="utf-8"))
        for chunk, (offset, length) in zip(chunks, extents, strict=True):
            where = _StorageInfo(f"__{number}_0.distcp", offset, length)
            results.append(WriteResult(_write_item_of(chunk).index, length, where))
    items = [_write_item_of(chunk) for chunks in files for chunk in chunks]
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

    ``torch.load`` does not read them. ``checkpoint.contents`` does, for a training's checkpoints alone.
    """
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def _note(folder: Path, number: int) -> Path:
    return folder / f"__{number}_0.json"


def _write_item_of(chunk: NewChunk) -> WriteItem:
    offset, shape = torch.Size(chunk.box.offset), torch.Size(chunk.box.shape)
    properties = TensorProperties(dtype=chunk.dtype)
    data = TensorWriteData(ChunkStorageMetadata(offset, shape), properties, torch.Size(chunk.global_shape))
    return WriteItem(MetadataIndex(chunk.key, offset), WriteItemType.SHARD, tensor_data=data)


def _check_cover(chunks: list[NewChunk]) -> None:
    """Raise ``ValueError`` unless the chunks cover all tensors exactly once, by their sizes and distinct offsets."""
    covered: dict[str, int] = {}
    whole: dict[str, int] = {}
    for chunk in chunks:
        whole[chunk.key] = math.prod(chunk.global_shape)
        covered[chunk.key] = covered.get(chunk.key, 0) + chunk.box.elements
    wrong = [key for key in whole if covered[key] != whole[key]]
    if wrong or len({(chunk.key, chunk.box.offset) for chunk in chunks}) != len(chunks):
        raise ValueError(f"pieces do not cover {', '.join(wrong) or 'their tensors'} exactly once")
