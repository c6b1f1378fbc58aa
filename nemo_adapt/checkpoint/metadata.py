"""What a ``torch_dist`` checkpoint says of its tensors: their sizes, dtypes, and the boxes in which they are stored.

PyTorch keeps this as a pickle (``.metadata``, torch/distributed/checkpoint/metadata.py). Here a pickle may make nothing
but sizes, dtypes and objects that only hold what they are given: it runs no code, and needs none of PyTorch's
distributed modules, whose import takes as long as copying a gigabyte.
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

Place = tuple[int, ...]
ONE_LAYER = re.compile(r"(decoder\.layers\.)(\d+)\.(.+)")


class Damaged(UserError):
    """A file of a checkpoint is not there, or not whole."""


@dataclass(frozen=True)
class Chunk:
    """A stored box of a tensor, and where the record lies that ``torch.save`` wrote of it."""

    offset: Place
    size: Place
    file: str
    begin: int
    length: int

    def overlap(self, offset: Place, size: Place) -> tuple[Place, Place] | None:
        """Where a box meets this one: offset and size, in the tensor; ``None`` if nowhere."""
        begin = tuple(map(max, self.offset, offset))
        end = (min(a + b, c + d) for a, b, c, d in zip(self.offset, self.size, offset, size, strict=True))
        lengths = tuple(stop - start for start, stop in zip(begin, end, strict=True))
        return (begin, lengths) if all(length > 0 for length in lengths) else None


@dataclass(frozen=True)
class TensorChunks:
    """A tensor of the checkpoint; ``chunks`` by their offsets."""

    size: Place
    dtype: torch.dtype
    chunks: list[Chunk]

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [chunk.offset[0] for chunk in self.chunks]

    @functools.cached_property
    def _tallest(self) -> int:
        return max(chunk.size[0] for chunk in self.chunks)

    def near(self, offset: Place, size: Place) -> list[Chunk]:
        """The chunks that may meet a box, by their first dimension."""
        if not offset:
            return self.chunks
        first = bisect.bisect_right(self._starts, offset[0] - self._tallest)
        return self.chunks[first : bisect.bisect_left(self._starts, offset[0] + size[0])]


def read_metadata(path: Path) -> dict[str, TensorChunks]:
    """The tensors of a checkpoint by key, as ``plain_keys`` has them; ``Damaged`` when the file is damaged or of
    another kind."""
    try:
        with path.open("rb") as stream:
            found = _Unpickler(stream).load()
        lies = {
            (index.fqn, tuple(getattr(index, "offset", None) or ())): lie for index, lie in found.storage_data.items()
        }
        tensors = {
            key: _tensor(key, entry, lies)
            for key, entry in found.state_dict_metadata.items()
            if hasattr(entry, "chunks")  # others are objects, stored as bytes
        }
        return plain_keys(tensors)
    except Exception:  # a pickle with any other byte may raise anything
        raise Damaged(f"{path} is damaged or not a checkpoint's metadata; the checkpoint cannot be read") from None


def plain_keys(tensors: dict[str, TensorChunks]) -> dict[str, TensorChunks]:
    """The tensors under the keys that Megatron's own models have, with the layers as their first dimension.

    What wraps a model may put a prefix before its keys (``module.`` in NeMo 2's checkpoints). Where layers may differ,
    Megatron stores each by itself (``decoder.layers.3.mlp...``). Keys of optimizers stay.
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
    """Equal tensors, one of each layer, as one."""
    chunks = [
        replace(chunk, offset=(layer, *chunk.offset), size=(1, *chunk.size))
        for layer, part in enumerate(parts)
        for chunk in part.chunks
    ]
    return TensorChunks((len(parts), *parts[0].size), parts[0].dtype, chunks)


def _tensor(key: str, entry: Any, lies: dict[tuple[str, Place], Any]) -> TensorChunks:
    chunks = []
    for chunk in entry.chunks:
        lie = lies[key, tuple(chunk.offsets)]
        chunks.append(Chunk(tuple(chunk.offsets), tuple(chunk.sizes), lie.relative_path, lie.offset, lie.length))
    dtype = entry.properties.state[0]
    if not isinstance(dtype, torch.dtype):
        raise TypeError
    return TensorChunks(tuple(entry.size), dtype, sorted(chunks, key=lambda chunk: chunk.offset))


class _Held:
    """Stands for every class that a pickle names: it holds the state that it is given and does nothing."""

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
        return known if isinstance(known, torch.dtype) or known is torch.Size else _Held
