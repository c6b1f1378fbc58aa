"""The metadata of a ``torch_dist`` checkpoint: sizes and dtypes of its tensors, and the boxes in which they are stored.

PyTorch keeps it as a pickle (``.metadata``, torch/distributed/checkpoint/metadata.py). Here unpickling creates only
sizes, dtypes and inert objects: it runs no code, and needs none of PyTorch's distributed modules, whose import takes as
long as copying a gigabyte.
"""

import bisect
import functools
import pickle
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING

Dims = tuple[int, ...]
"""An offset or a size, by dimension."""
ONE_LAYER = re.compile(r"(decoder\.layers\.)(\d+)\.(.+)")


class Damaged(UserError):
    """A file of a checkpoint is missing or damaged."""


@dataclass(frozen=True)
class Chunk:
    """A stored box of a tensor, and where in ``file`` the archive is that ``torch.save`` wrote of it, in bytes."""

    offset: Dims
    size: Dims
    file: str
    begin: int
    length: int

    def overlap(self, offset: Dims, size: Dims) -> tuple[Dims, Dims] | None:
        """Return the offset (in the tensor) and size of a box's intersection with this one; ``None`` if it is empty."""
        begin = tuple(map(max, self.offset, offset))
        end = (min(a + b, c + d) for a, b, c, d in zip(self.offset, self.size, offset, size, strict=True))
        lengths = tuple(stop - start for start, stop in zip(begin, end, strict=True))
        return (begin, lengths) if all(length > 0 for length in lengths) else None


@dataclass(frozen=True)
class TensorChunks:
    """A tensor of the checkpoint; ``chunks`` are sorted by offset."""

    size: Dims
    dtype: torch.dtype
    chunks: list[Chunk]

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [chunk.offset[0] for chunk in self.chunks]

    @functools.cached_property
    def _tallest(self) -> int:
        return max(chunk.size[0] for chunk in self.chunks)

    def near(self, offset: Dims, size: Dims) -> list[Chunk]:
        """Return the chunks that may intersect a box, judged by the first dimension."""
        if not offset:
            return self.chunks
        first = bisect.bisect_right(self._starts, offset[0] - self._tallest)
        return self.chunks[first : bisect.bisect_left(self._starts, offset[0] + size[0])]


def read_metadata(path: Path) -> dict[str, TensorChunks]:
    """Return a checkpoint's tensors by key (``plain_keys``); ``Damaged`` if the file is missing or damaged."""
    try:
        with path.open("rb") as stream:
            found = _Unpickler(stream).load()
        records = {
            (index.fqn, tuple(getattr(index, "offset", None) or ())): where
            for index, where in found.storage_data.items()
        }
        tensors = {
            key: _tensor(key, entry, records)
            for key, entry in found.state_dict_metadata.items()
            if hasattr(entry, "chunks")  # others are objects, stored as bytes
        }
        return plain_keys(tensors)
    except Exception:  # unpickling damaged bytes may raise anything
        raise Damaged(f"{path} is damaged or not a checkpoint's metadata; the checkpoint cannot be read") from None


def plain_keys(tensors: dict[str, TensorChunks]) -> dict[str, TensorChunks]:
    """Return the tensors under the keys of Megatron's own models, with the layers stacked as the first dimension.

    A wrapper may have added a prefix to the keys (``module.`` in NeMo 2's checkpoints). If layers may differ, Megatron
    stores each separately (``decoder.layers.3.mlp...``); such layers are left out if sizes or dtypes differ or one is
    missing. Keys of optimizer states are not changed.
    """
    table = min((key for key in tensors if key.endswith(EMBEDDING)), key=len, default=EMBEDDING)
    prefix = table.removesuffix(EMBEDDING)
    found, layers = {}, defaultdict[str, dict[int, TensorChunks]](dict)
    for key, tensor in tensors.items():
        plain = key.removeprefix(prefix)
        one = ONE_LAYER.fullmatch(plain)
        if one:
            layers[one[1] + one[3]][int(one[2])] = tensor
        else:
            found[plain] = tensor
    for key, parts in layers.items():
        sizes = {(part.size, part.dtype) for part in parts.values()}
        if len(sizes) == 1 and sorted(parts) == list(range(len(parts))):
            found[key] = _stacked([parts[layer] for layer in sorted(parts)])
    return found


def _stacked(parts: list[TensorChunks]) -> TensorChunks:
    """Stack equal tensors, one of each layer, into one."""
    chunks = [
        replace(chunk, offset=(layer, *chunk.offset), size=(1, *chunk.size))
        for layer, part in enumerate(parts)
        for chunk in part.chunks
    ]
    return TensorChunks((len(parts), *parts[0].size), parts[0].dtype, chunks)


def _tensor(key: str, entry: Any, records: dict[tuple[str, Dims], Any]) -> TensorChunks:
    chunks = []
    for chunk in entry.chunks:
        where = records[key, tuple(chunk.offsets)]
        chunks.append(Chunk(tuple(chunk.offsets), tuple(chunk.sizes), where.relative_path, where.offset, where.length))
    dtype = entry.properties.state[0]
    if not isinstance(dtype, torch.dtype):
        raise TypeError
    return TensorChunks(tuple(entry.size), dtype, sorted(chunks, key=lambda chunk: chunk.offset))


class _Inert:
    """Placeholder for every class that a pickle names: it stores the state that it is given and does nothing."""

    state: Any = None

    def __init__(self, *given: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = getattr(torch, name, None) if module == "torch" else None
        return known if isinstance(known, torch.dtype) or known is torch.Size else _Inert
