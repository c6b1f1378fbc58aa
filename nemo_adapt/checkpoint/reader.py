"""Read boxes of tensors from a ``torch_dist`` checkpoint without building a model, and only the bytes needed."""

import io
import itertools
import math
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from nemo_adapt.checkpoint.integrity import METADATA
from nemo_adapt.checkpoint.layout import checkpoint_in
from nemo_adapt.checkpoint.metadata import Chunk, Damaged, Dims, read_metadata
from nemo_adapt.errors import UserError

LOCAL_HEADER = b"PK\x03\x04"
"""The signature at the beginning of a record in a zip archive."""


class Checkpoint:
    """An opened checkpoint folder: ``sizes`` and ``dtypes`` by key, and ``read`` for any box of any tensor.

    ``folder`` may contain several checkpoints (``layout.checkpoint_in``). Keys are the ones that we write, whoever
    wrote the checkpoint (``metadata.plain_keys``). ``UserError`` if there is no complete checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = checkpoint_in(folder)
        self._known: dict[Chunk, Stored] = {}
        self._tensors = read_metadata(self.folder / METADATA)
        self.sizes = {key: tensor.size for key, tensor in self._tensors.items()}
        self.dtypes = {key: tensor.dtype for key, tensor in self._tensors.items()}
        self.bytes_read = 0

    def read(self, key: str, offset: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor:
        """Return the box of ``size`` at ``offset`` of tensor ``key``, on the CPU, in its stored dtype.

        ``UserError`` if the checkpoint does not contain all of it.
        """
        out = torch.empty(size, dtype=self.dtypes[key])
        parts = [(chunk, chunk.overlap(offset, size)) for chunk in self._tensors[key].near(offset, size)]
        overlapping = [(chunk, *overlap) for chunk, overlap in parts if overlap is not None]
        if sum(math.prod(lengths) for _, _, lengths in overlapping) != out.numel():
            raise UserError(f"{self.folder}: tensor {key} {self.sizes[key]} has no box {size} at {offset}")
        for chunk, begin, lengths in overlapping:
            part = self._stored(chunk).read(_relative(begin, chunk.offset), lengths, out.dtype)
            self.bytes_read += part.numel() * part.element_size()
            if part.shape == out.shape:
                return part
            box_of(out, _relative(begin, offset), lengths).copy_(part)
        return out

    def examine(self, *keys: str) -> None:
        """Check that the stored boxes of tensors ``keys`` (or of all) can be located; ``Damaged`` names the first bad
        one.

        Reads only the headers, not the data.
        """
        for key in keys or self._tensors:
            for chunk in self._tensors[key].chunks:
                self._stored(chunk)

    def _stored(self, chunk: Chunk) -> "Stored":
        """Locate the data of a stored box, once."""
        if chunk not in self._known:
            found = find(self.folder / chunk.file, chunk.begin, chunk.length)
            # A layer stored separately is here a box of the stacked tensor: the same data with one more dimension.
            is_same = math.prod(found.shape) == math.prod(chunk.size)
            self._known[chunk] = replace(found, shape=chunk.size) if is_same else found
        return self._known[chunk]

    def rows(self, key: str, start: int, stop: int) -> torch.Tensor:
        """Return rows ``start`` to ``stop`` of a table."""
        return self.layer_rows(key, start, stop, None)

    def layer_rows(self, key: str, start: int, stop: int, layer: int | None) -> torch.Tensor:
        """Return rows of one layer's part of a tensor; ``layer`` ``None``: the tensor is not stacked."""
        if layer is None:
            rest = self.sizes[key][1:]
            return self.read(key, (start, *(0 for _ in rest)), (stop - start, *rest))
        rest = self.sizes[key][2:]
        return self.read(key, (layer, start, *(0 for _ in rest)), (1, stop - start, *rest))[0]


@dataclass(frozen=True)
class Stored:
    """A stored box of a tensor: its file, the position of its first data byte there, and its shape."""

    file: Path
    position: int
    shape: tuple[int, ...]

    def read(self, offset: tuple[int, ...], size: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Read a part of the box. Trailing dimensions that are wanted completely are read in one go."""
        out = torch.empty(size, dtype=dtype)
        whole = len(self.shape)
        while whole and size[whole - 1] == self.shape[whole - 1]:
            whole -= 1
        ahead = max(0, whole - 1)  # leading dimensions, read index by index
        flat: Any = out.view(-1).view(torch.uint8).numpy()
        run = math.prod(size[ahead:]) * dtype.itemsize
        steps = [math.prod(self.shape[d + 1 :]) * dtype.itemsize for d in range(len(self.shape))]
        with self.file.open("rb", buffering=0) as stream:
            for number, index in enumerate(itertools.product(*map(range, size[:ahead]))):
                at = [*(begin + i for begin, i in zip(offset, index, strict=False)), *offset[ahead:]]
                stream.seek(self.position + sum(i * step for i, step in zip(at, steps, strict=True)))
                target = memoryview(flat[number * run : (number + 1) * run])
                while len(target):
                    got = stream.readinto(target)
                    if not got:
                        raise Damaged(f"{self.file} is cut short; the checkpoint cannot be read")
                    target = target[got:]
        return out


def box_of(tensor: torch.Tensor, offsets: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    """Return a view of a box of a tensor."""
    for dimension, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
        tensor = tensor.narrow(dimension, offset, length)
    return tensor


def _relative(offset: Dims, begin: Dims) -> Dims:
    """Return ``offset`` relative to ``begin``."""
    return tuple(at - first for at, first in zip(offset, begin, strict=True))


def find(file: Path, offset: int, length: int) -> Stored:
    """Locate the data of a tensor that ``torch.save`` wrote into ``file`` at ``offset``.

    ``torch.save`` makes a zip archive with the data uncompressed in one record. ``Damaged`` for a file that is missing
    or cut short, and for a tensor that is not contiguous with a storage of its own, which Megatron never writes.
    """
    if not file.is_file():
        raise Damaged(f"{file} is missing; the checkpoint is not complete")
    with file.open("rb") as stream:
        head = Slice(stream, offset, length)
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
    return Stored(file, offset + begin, tuple(shape.shape))


class Slice(io.RawIOBase):
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
