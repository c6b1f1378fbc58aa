"""Read boxes of tensors from a ``torch_dist`` checkpoint without building a model, and only the bytes needed."""

import io
import itertools
import math
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from nemo_adapt.checkpoint.box import Box, Dims
from nemo_adapt.checkpoint.folders import METADATA, checkpoint_in
from nemo_adapt.checkpoint.metadata import Damaged, StoredChunk, read_metadata
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Entry

LOCAL_HEADER = b"PK\x03\x04"
"""The signature at the beginning of a record in a zip archive."""


class Checkpoint:
    """An opened checkpoint folder: ``shapes`` and ``dtypes`` by key, and ``read`` for any box of any tensor.

    ``folder`` may contain several checkpoints (``folders.checkpoint_in``). Keys are the ones that we write, whoever
    wrote the checkpoint (``metadata.plain_keys``). ``UserError`` if there is no complete checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = checkpoint_in(folder)
        self._located: dict[StoredChunk, ChunkData] = {}
        self._tensors = read_metadata(self.folder / METADATA)
        self.shapes = {key: tensor.shape for key, tensor in self._tensors.items()}
        self.dtypes = {key: tensor.dtype for key, tensor in self._tensors.items()}
        self.bytes_read = 0

    def read(self, key: str, box: Box) -> torch.Tensor:
        """Return a box of tensor ``key``, on the CPU, in its stored dtype.

        ``UserError`` if the checkpoint does not contain all of it.
        """
        out = torch.empty(box.shape, dtype=self.dtypes[key])
        overlaps = [(chunk, chunk.box.overlap(box)) for chunk in self._tensors[key].near(box)]
        found = [(chunk, overlap) for chunk, overlap in overlaps if overlap is not None]
        if sum(overlap.elements for _, overlap in found) != out.numel():
            raise UserError(f"{self.folder}: tensor {key} {self.shapes[key]} has no box {box.shape} at {box.offset}")
        for chunk, overlap in found:
            values = self._data(chunk).read(overlap.within(chunk.box), out.dtype)
            self.bytes_read += values.numel() * values.element_size()
            if values.shape == out.shape:
                return values
            overlap.within(box).view(out).copy_(values)
        return out

    def rows(self, key: str, start: int, stop: int) -> torch.Tensor:
        """Return rows ``start`` to ``stop`` of a tensor: its range along the first dimension."""
        return self.read(key, Box.of_rows(start, stop, self.shapes[key][1:]))

    def entry_rows(self, entry: Entry, layer: int, start: int, stop: int) -> torch.Tensor:
        """Return rows of a tensor of a family's table; ``layer`` counts only if it is stacked."""
        if not entry.stacked:
            return self.rows(entry.key, start, stop)
        return self.read(entry.key, Box.of_rows(start, stop, self.shapes[entry.key][2:], layer))[0]

    def examine(self, *keys: str) -> None:
        """Check that the chunks of tensors ``keys`` (or of all) can be located; ``Damaged`` names the first bad one.

        Reads only the headers, not the data.
        """
        for key in keys or self._tensors:
            for chunk in self._tensors[key].chunks:
                self._data(chunk)

    def _data(self, chunk: StoredChunk) -> "ChunkData":
        """Locate the data of a chunk, once."""
        if chunk not in self._located:
            found = locate(self.folder / chunk.extent.file, chunk.extent.begin, chunk.extent.length)
            # A layer stored separately is here a box of the stacked tensor: the same data with one more dimension.
            is_same = math.prod(found.shape) == chunk.box.elements
            self._located[chunk] = replace(found, shape=chunk.box.shape) if is_same else found
        return self._located[chunk]


@dataclass(frozen=True)
class ChunkData:
    """Where the data of a chunk is: its file, the position of its first byte there, and its shape."""

    file: Path
    position: int
    shape: Dims

    def read(self, box: Box, dtype: torch.dtype) -> torch.Tensor:
        """Read a box of the chunk. Trailing dimensions that are wanted completely are read in one go."""
        out = torch.empty(box.shape, dtype=dtype)
        whole = len(self.shape)
        while whole and box.shape[whole - 1] == self.shape[whole - 1]:
            whole -= 1
        ahead = max(0, whole - 1)  # leading dimensions, read index by index
        flat: Any = out.view(-1).view(torch.uint8).numpy()
        run = math.prod(box.shape[ahead:]) * dtype.itemsize
        steps = [math.prod(self.shape[d + 1 :]) * dtype.itemsize for d in range(len(self.shape))]
        with self.file.open("rb", buffering=0) as stream:
            for number, index in enumerate(itertools.product(*map(range, box.shape[:ahead]))):
                at = [*(begin + i for begin, i in zip(box.offset, index, strict=False)), *box.offset[ahead:]]
                stream.seek(self.position + sum(i * step for i, step in zip(at, steps, strict=True)))
                target = memoryview(flat[number * run : (number + 1) * run])
                while len(target):
                    got = stream.readinto(target)
                    if not got:
                        raise Damaged(f"{self.file} is cut short; the checkpoint cannot be read")
                    target = target[got:]
        return out


def locate(file: Path, offset: int, length: int) -> ChunkData:
    """Locate the data of a tensor that ``torch.save`` wrote into ``file`` at ``offset``.

    ``torch.save`` makes a zip archive with the data uncompressed in one record. ``Damaged`` for a file that is missing
    or cut short, and for a tensor that is not contiguous with a storage of its own, which Megatron never writes.
    """
    if not file.is_file():
        raise Damaged(f"{file} is missing; the checkpoint is not complete")
    with file.open("rb") as stream:
        head = ByteRange(stream, offset, length)
        try:
            shape = torch.load(cast(BinaryIO, head), map_location="meta", weights_only=True)
            with zipfile.ZipFile(head) as archive:
                (record,) = [entry for entry in archive.infolist() if "/data/" in entry.filename]
            stream.seek(offset + record.header_offset)
            # The record's local header: 30 bytes, of which the last four are the lengths of name and extra field.
            mark, name, extra = struct.unpack("<4s22x2H", stream.read(30))
            begin, bytes_of_all = record.header_offset + 30 + name + extra, shape.numel() * shape.element_size()
            is_there = mark == LOCAL_HEADER and stream.read(name) == record.orig_filename.encode()
            if not is_there or begin + record.file_size > length:
                raise ValueError
        except Exception:  # unpickling damaged bytes may raise anything
            raise Damaged(f"{file} is cut short or damaged at byte {offset}; the checkpoint cannot be read") from None
        if (
            not shape.is_contiguous()
            or shape.storage_offset()
            or not record.file_size == shape.untyped_storage().nbytes() == bytes_of_all
            or record.compress_type
        ):
            raise Damaged(f"{file}: the tensor at byte {offset} is not stored as Megatron stores tensors")
    return ChunkData(file, offset + begin, tuple(shape.shape))


class ByteRange(io.RawIOBase):
    """A byte range of an open file as a file of its own."""

    def __init__(self, stream: BinaryIO, offset: int, length: int) -> None:
        self.stream, self.offset, self.length, self.at = stream, offset, length, 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position relative to the range, and return it."""
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.length}[whence]
        return self.at

    def tell(self) -> int:
        """Return the position relative to the range."""
        return self.at

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` up to the end of the range; return the number of bytes."""
        self.stream.seek(self.offset + self.at)
        data = self.stream.read(min(len(buffer), max(0, self.length - self.at)))
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)
