"""The weights of Hugging Face model folders: safetensors files, read and written by ranges of rows.

The safetensors format (https://github.com/huggingface/safetensors#format): 8 bytes little-endian header length, a
JSON header ``{name: {dtype, shape, data_offsets}}``, then the raw tensors. Reading with ``pread`` keeps resident
memory at the size of what was read; a memory map would count the whole file.
"""

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, Family, Shape
from nemo_adapt.hf_model.weight_files import INDEX, SINGLE, weight_files
from nemo_adapt.partition import groups

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is stored: its file, dtype, shape, and the offset of its first byte in the file."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_elements(self) -> int:
        """Elements of one row (1 for a vector)."""
        return math.prod(self.shape[1:])


class HfWeights:
    """The tensors of a model folder, found through the file headers; nothing is loaded until ``read``.

    With a ``family``, names are those of its table, and ``others`` is the number of tensors that are not the language
    model's. With its ``shape`` too, the only table of a tied model is the input table, whichever name it was saved by,
    as in transformers. Raises ``UserError`` for a folder without safetensors, a missing shard of the index, a file that
    is shorter than its header says, and unsupported dtypes.
    """

    def __init__(self, folder: Path, family: Family | None = None, shape: Shape | None = None) -> None:
        self.tensors: dict[str, StoredTensor] = {}
        self._files: dict[Path, int] = {}
        self._turned: tuple[str, torch.Tensor] | None = None
        self.bytes_read = 0
        for file in weight_files(folder):
            self.tensors.update(_read_header(file, family.computed if family else ()))
        names = family.names(self.tensors) if family else {name: name for name in self.tensors}
        self.others = len(self.tensors) - len(names)
        self.tensors = {own: self.tensors[name] for name, own in names.items()}
        if family and shape and shape.tied and family.output_table in self.tensors:
            embedding = next(entry.rows[0].name for entry in family.entries(shape) if entry.key == EMBEDDING)
            if embedding not in self.tensors:
                self.tensors[embedding] = self.tensors.pop(family.output_table)

    @property
    def others_left_out(self) -> str:
        """One line for the user that says how many ``others`` there are, empty if there are none."""
        line = f"left out {self.others} tensors that do not belong to the language model, which alone is exported"
        return line if self.others else ""

    def read(self, name: str, start: int, stop: int, out: torch.Tensor, transposed: bool = False) -> None:
        """Copy rows ``start`` to ``stop`` of a tensor into ``out`` (contiguous, same dtype, as many elements).

        ``transposed``: columns of a matrix become the rows of ``out``; the whole matrix is read and cached.
        """
        if transposed:
            self._read_columns(name, start, stop, out)
            return
        stored = self.tensors[name]
        row_bytes = stored.row_elements * stored.dtype.itemsize
        target = _bytes_of(out)
        if len(target) != (stop - start) * row_bytes or out.dtype != stored.dtype:
            raise ValueError(f"{name}: {stop - start} rows of {stored} do not fill {tuple(out.shape)} {out.dtype}")
        if stored.file not in self._files:
            self._files[stored.file] = os.open(stored.file, os.O_RDONLY)
        position = stored.offset + start * row_bytes
        while len(target):
            got = os.preadv(self._files[stored.file], [target], position)
            if not got:
                raise UserError(f"{stored.file}: the file ended inside tensor {name}; download it again")
            target, position = target[got:], position + got
            self.bytes_read += got

    def rows(self, name: str, start: int, stop: int, transposed: bool = False) -> torch.Tensor:
        """Return rows ``start`` to ``stop`` of a tensor in memory of their own; ``transposed`` as in ``read``."""
        stored = self.tensors[name]
        row_shape = stored.shape[:1] if transposed else stored.shape[1:]
        out = torch.empty((stop - start, *row_shape), dtype=stored.dtype)
        self.read(name, start, stop, out, transposed)
        return out

    def _read_columns(self, name: str, start: int, stop: int, out: torch.Tensor) -> None:
        if self._turned is None or self._turned[0] != name:
            stored = self.tensors[name]
            whole = torch.empty(stored.shape, dtype=stored.dtype)
            self.read(name, 0, stored.shape[0], whole)
            self._turned = name, whole
        out.copy_(self._turned[1][:, start:stop].T)

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


class HfWriter:
    """Writes named tensors of known shapes into sharded safetensors files, rows in any order.

    ``tensors``: name -> (shape, dtype), in file order. Rows that are not written are zero. Several processes may open
    the same folder and write different rows; existing contents are kept. At the end, one of them calls ``close``.
    """

    def __init__(self, folder: Path, tensors: dict[str, tuple[tuple[int, ...], torch.dtype]], shard_bytes: int) -> None:
        self.folder = folder
        self.stored: dict[str, StoredTensor] = {}
        self._descriptors: dict[Path, int] = {}
        sizes = {name: math.prod(shape) * dtype.itemsize for name, (shape, dtype) in tensors.items()}
        shards = groups(sizes, sizes.__getitem__, shard_bytes)
        self.total_bytes = 0
        for number, names in enumerate(shards, start=1):
            file = folder / (SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors")
            header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
            end = 0
            for name in names:
                shape, dtype = tensors[name]
                begin, end = end, end + sizes[name]
                header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
            text = json.dumps(header, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)
            descriptor = os.open(file, os.O_CREAT | os.O_WRONLY, 0o666)  # less the umask
            self._descriptors[file] = descriptor
            _write_at(descriptor, memoryview(struct.pack("<Q", len(text)) + text), 0)
            os.ftruncate(descriptor, 8 + len(text) + end)
            for name in names:
                shape, dtype = tensors[name]
                offset = 8 + len(text) + header[name]["data_offsets"][0]
                self.stored[name] = StoredTensor(file, dtype, shape, offset)
            self.total_bytes += end

    def write(self, name: str, start: int, rows: torch.Tensor, transposed: bool = False) -> None:
        """Write ``rows`` (dtype of the tensor) at row ``start`` of tensor ``name``; ``transposed``: as columns."""
        stored = self.stored[name]
        if rows.dtype != stored.dtype:
            raise ValueError(f"{name} is {stored.dtype}, not {rows.dtype}")
        descriptor, size = self._descriptors[stored.file], stored.dtype.itemsize
        if transposed:
            for number, row in enumerate(rows.T.contiguous()):
                _write_at(descriptor, _bytes_of(row), stored.offset + (number * stored.shape[1] + start) * size)
            return
        _write_at(descriptor, _bytes_of(rows.contiguous()), stored.offset + start * stored.row_elements * size)

    def flush(self) -> None:
        """Fsync all files."""
        for descriptor in self._descriptors.values():
            os.fsync(descriptor)

    def close(self) -> None:
        """Fsync and close the files; write the index if there are several."""
        self.flush()
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        if len(self._descriptors) > 1:
            weight_map = {name: stored.file.name for name, stored in self.stored.items()}
            index = {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map}
            (self.folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _read_header(file: Path, ignored: tuple[str, ...] = ()) -> Iterable[tuple[str, StoredTensor]]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = stream.read(8)
        count = struct.unpack("<Q", length)[0] if len(length) == 8 else size
        if count > size - 8:
            raise UserError(f"{file} is cut short or not a safetensors file ({size} bytes); download it again")
        try:
            header = json.loads(stream.read(count))
        except (ValueError, RecursionError):
            raise UserError(f"{file} is not a safetensors file: its header cannot be read") from None
    if not isinstance(header, dict):
        raise UserError(f"{file} is not a safetensors file: its header is no list of tensors; download it again")
    names = [name for name in header if name != "__metadata__" and not name.endswith(ignored)]
    return [(name, _stored(file, name, header[name], 8 + count, size)) for name in names]


def _stored(file: Path, name: str, entry: Any, start: int, size: int) -> StoredTensor:
    """Return where a tensor is, from its entry in the header of ``file``; data begins at ``start`` of ``size`` bytes.

    ``UserError`` for a damaged entry, another dtype, and a file that ends before the tensor.
    """
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        numbers = False
    if not numbers or not isinstance(code, str):
        raise UserError(f"{file} is damaged: its header does not say where tensor {name} is; download it again")
    if code not in DTYPES:
        raise UserError(f"{file}: tensor {name} is {code}; only {', '.join(DTYPES)} can be converted")
    if end - begin != math.prod(shape) * DTYPES[code].itemsize:
        raise UserError(
            f"{file} is damaged: tensor {name} has {end - begin} bytes, which are not those of {list(shape)} {code}; "
            "download it again"
        )
    if start + end > size:
        raise UserError(
            f"{file} is cut short: {size} bytes, but tensor {name} ends at {start + end}; download it again"
        )
    return StoredTensor(file, DTYPES[code], shape, start + begin)


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous CPU tensor."""
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
