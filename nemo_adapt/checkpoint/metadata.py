"""The metadata of a ``torch_dist`` checkpoint: its tensors' shapes and dtypes, and the chunks that they are stored in.

PyTorch keeps it as a pickle (``.metadata``, torch/distributed/checkpoint/metadata.py). Here unpickling creates only
shapes, dtypes and inert objects: it runs no code, and needs none of PyTorch's distributed modules, whose import takes
as long as copying a gigabyte.
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

from nemo_adapt.checkpoint.box import Box, Dims
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING

ONE_LAYER = re.compile(r"(decoder\.layers\.)(\d+)\.(.+)")


class Damaged(UserError):
    """A file of a checkpoint is missing or damaged."""


@dataclass(frozen=True)
class Extent:
    """Where in ``file`` an archive is that ``torch.save`` wrote, in bytes."""

    file: str
    begin: int
    length: int


@dataclass(frozen=True)
class StoredChunk:
    """A chunk, and where its archive is."""

    box: Box
    extent: Extent


@dataclass(frozen=True)
class ChunkedTensor:
    """A tensor of the checkpoint; ``chunks`` are sorted by offset."""

    shape: Dims
    dtype: torch.dtype
    chunks: list[StoredChunk]

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [chunk.box.offset[0] for chunk in self.chunks]

    @functools.cached_property
    def _tallest(self) -> int:
        return max(chunk.box.shape[0] for chunk in self.chunks)

    def near(self, box: Box) -> list[StoredChunk]:
        """Return the chunks that may intersect a box, judged by the first dimension."""
        if not box.offset:
            return self.chunks
        first = bisect.bisect_right(self._starts, box.offset[0] - self._tallest)
        return self.chunks[first : bisect.bisect_left(self._starts, box.offset[0] + box.shape[0])]


def read_metadata(path: Path) -> dict[str, ChunkedTensor]:
    """Return a checkpoint's tensors by key (``plain_keys``); ``Damaged`` if the file is missing or damaged."""
    try:
        found = _unpickled(path)
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
        raise _damaged(path) from None


def stored_extents(path: Path) -> list[tuple[str, Extent]]:
    """Return the key of everything that a checkpoint stores, and where it is, in the order of the files; ``Damaged`` as
    above."""
    try:
        records = _unpickled(path).storage_data.items()
        found = [(index.fqn, _extent(where)) for index, where in records]
        return sorted(found, key=lambda stored: (stored[1].file, stored[1].begin))
    except Exception:
        raise _damaged(path) from None


def _unpickled(path: Path) -> Any:
    with path.open("rb") as stream:
        return _Unpickler(stream).load()


def _damaged(path: Path) -> Damaged:
    return Damaged(f"{path} is damaged or not a checkpoint's metadata; the checkpoint cannot be read")


def plain_keys(tensors: dict[str, ChunkedTensor]) -> dict[str, ChunkedTensor]:
    """Return the tensors under the keys of Megatron's own models, with the layers stacked as the first dimension.

    A wrapper may have added a prefix to the keys (``module.`` in NeMo 2's checkpoints). If layers may differ, Megatron
    stores each separately (``decoder.layers.3.mlp...``); such layers are left out if shapes or dtypes differ or one is
    missing. Keys of optimizer states are not changed.
    """
    table = min((key for key in tensors if key.endswith(EMBEDDING)), key=len, default=EMBEDDING)
    prefix = table.removesuffix(EMBEDDING)
    found, layers = {}, defaultdict[str, dict[int, ChunkedTensor]](dict)
    for key, tensor in tensors.items():
        plain = key.removeprefix(prefix)
        one = ONE_LAYER.fullmatch(plain)
        if one:
            layers[one[1] + one[3]][int(one[2])] = tensor
        else:
            found[plain] = tensor
    for key, by_layer in layers.items():
        kinds = {(tensor.shape, tensor.dtype) for tensor in by_layer.values()}
        if len(kinds) == 1 and sorted(by_layer) == list(range(len(by_layer))):
            found[key] = _stacked([by_layer[layer] for layer in sorted(by_layer)])
    return found


def _stacked(layers: list[ChunkedTensor]) -> ChunkedTensor:
    """Stack equal tensors, one of each layer, into one."""
    chunks = [
        replace(chunk, box=chunk.box.stacked(layer)) for layer, tensor in enumerate(layers) for chunk in tensor.chunks
    ]
    return ChunkedTensor((len(layers), *layers[0].shape), layers[0].dtype, chunks)


def _tensor(key: str, entry: Any, records: dict[tuple[str, Dims], Any]) -> ChunkedTensor:
    chunks = []
    for chunk in entry.chunks:
        box = Box(tuple(chunk.offsets), tuple(chunk.sizes))
        chunks.append(StoredChunk(box, _extent(records[key, box.offset])))
    dtype = entry.properties.state[0]
    if not isinstance(dtype, torch.dtype):
        raise TypeError
    return ChunkedTensor(tuple(entry.size), dtype, sorted(chunks, key=lambda chunk: chunk.box.offset))


def _extent(where: Any) -> Extent:
    return Extent(where.relative_path, where.offset, where.length)


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
