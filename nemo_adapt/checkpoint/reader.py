"""Read boxes of tensors from a ``torch_dist`` checkpoint without building a model."""

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from nemo_adapt.errors import UserError


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints ``iter_*`` of a folder, oldest first; one that is still being saved is ``*.partial``."""
    return sorted(path.parent for path in folder.glob("iter_*/.metadata") if path.parent.suffix != ".partial")


class Checkpoint:
    """An opened checkpoint folder: ``sizes`` and ``dtypes`` by key, and ``read`` for any box of any tensor.

    ``UserError`` when the folder is no complete checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / ".metadata").is_file():
            raise UserError(f"{folder} is not a complete Megatron checkpoint (no .metadata in it)")
        self.folder = folder
        self._reader = FileSystemReader(folder)
        metadata = self._reader.read_metadata()
        self._reader.set_up_storage_reader(metadata, True)
        self._tensors = {
            key: entry
            for key, entry in metadata.state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }
        self.sizes = {key: tuple(entry.size) for key, entry in self._tensors.items()}
        self.bytes_read = 0
        self.dtypes = {key: entry.properties.dtype for key, entry in self._tensors.items()}

    def read(self, key: str, offset: tuple[int, ...], size: tuple[int, ...]) -> torch.Tensor:
        """The box of ``size`` at ``offset`` of tensor ``key``, on the CPU, in its stored dtype."""
        out = torch.empty(size, dtype=self.dtypes[key])
        box = ChunkStorageMetadata(torch.Size(offset), torch.Size(size))
        items = create_read_items_for_chunk_list(key, self._tensors[key], [box])
        if sum(item.lengths.numel() for item in items) != out.numel():
            raise UserError(f"{self.folder}: tensor {key} {self.sizes[key]} has no box {size} at {offset}")
        self._reader.read_data(LoadPlan(items), _Into(out)).wait()
        self.bytes_read += out.numel() * out.element_size()
        return out

    def rows(self, key: str, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop`` of a table."""
        rest = self.sizes[key][1:]
        return self.read(key, (start, *(0 for _ in rest)), (stop - start, *rest))


class _Into:
    """The two methods of a load planner that ``FileSystemReader.read_data`` calls: read into one tensor."""

    def __init__(self, out: torch.Tensor) -> None:
        self.out = out

    def resolve_tensor(self, item: Any) -> torch.Tensor:
        """The part of the tensor that an item fills."""
        part = self.out
        for dimension, (offset, length) in enumerate(zip(item.dest_offsets, item.lengths, strict=True)):
            part = part.narrow(dimension, offset, length)
        return part

    def commit_tensor(self, item: Any, tensor: torch.Tensor) -> None:
        """Nothing to do: the item was read in place."""
