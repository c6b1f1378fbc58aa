"""Write a ``torch_dist`` checkpoint lazily: each piece is made when it is written and freed at once."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import create_default_global_save_plan
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat, _write_item
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import (
    SavePlan,
    SavePlanner,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.futures import Future

BACKEND = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}


@dataclass(frozen=True)
class Piece:
    """One box of a tensor, and how to make it."""

    key: str
    tensor_size: tuple[int, ...]
    """Size of the whole tensor."""
    offset: tuple[int, ...]
    size: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]


def write(folder: Path, pieces: list[Piece], done: Callable[[int], None] = lambda size: None) -> None:
    """Write ``pieces`` as a checkpoint that ``megatron.core.dist_checkpointing.load`` reads at any TP and PP.

    ``done`` is called with the bytes of each piece written. Raises ``ValueError`` when the pieces do not cover their
    tensors exactly once.
    """
    _check_cover(pieces)
    dcp.save({}, storage_writer=_PieceWriter(folder, done), planner=_PiecePlanner(pieces), no_dist=True)
    torch.save({}, folder / "common.pt")
    (folder / "metadata.json").write_text(json.dumps(BACKEND), encoding="utf-8")


class _PiecePlanner(SavePlanner):
    """A save plan made of pieces; ``resolve_data`` makes the piece that is about to be written."""

    def __init__(self, pieces: list[Piece]) -> None:
        self.pieces = {(piece.key, piece.offset): piece for piece in pieces}

    def set_up_planner(self, state_dict: Any, storage_meta: Any = None, is_coordinator: bool = False) -> None:
        """Nothing to set up: the pieces are the plan."""

    def create_local_plan(self) -> SavePlan:
        """One write item a piece."""
        return SavePlan([_write_item_of(piece) for piece in self.pieces.values()])

    def create_global_plan(self, all_plans: list[SavePlan]) -> tuple[list[SavePlan], Any]:
        """DCP's own joining of plans, with the metadata that follows."""
        return create_default_global_save_plan(all_plans)

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        """The plan is final as it is."""
        return new_plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        """Make the tensor of one item."""
        return self.pieces[(write_item.index.fqn, tuple(write_item.index.offset))].make()


class _PieceWriter(FileSystemWriter):
    """DCP's file writer, but with one piece in memory: the stock one keeps tensors until their file is closed."""

    def __init__(self, folder: Path, done: Callable[[int], None]) -> None:
        super().__init__(folder, single_file_per_rank=True)
        self.done = done

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[Any]:
        """Write the items one after the other into one file."""
        name = f"{plan.storage_data.prefix}0.distcp"
        results = []
        with (Path(self.path) / name).open("wb", buffering=1 << 20) as stream:
            for item in plan.items:
                data = planner.resolve_data(item)
                results.append(_write_item(self.transforms, stream, data, item, name, SerializationFormat.TORCH_SAVE))
                self.done(data.numel() * data.element_size())
            stream.flush()
            os.fsync(stream.fileno())
        future: Future[Any] = Future()
        future.set_result(results)
        return future


def _write_item_of(piece: Piece) -> WriteItem:
    chunk = ChunkStorageMetadata(torch.Size(piece.offset), torch.Size(piece.size))
    data = TensorWriteData(chunk, TensorProperties(dtype=piece.dtype), torch.Size(piece.tensor_size))
    return WriteItem(MetadataIndex(piece.key, torch.Size(piece.offset)), WriteItemType.SHARD, tensor_data=data)


def _check_cover(pieces: list[Piece]) -> None:
    """Every element of every tensor belongs to exactly one piece (pieces never overlap, by their offsets)."""
    covered: dict[str, int] = {}
    whole: dict[str, int] = {}
    for piece in pieces:
        whole[piece.key] = torch.Size(piece.tensor_size).numel()
        covered[piece.key] = covered.get(piece.key, 0) + torch.Size(piece.size).numel()
    wrong = [key for key in whole if covered[key] != whole[key]]
    if wrong or len({(piece.key, piece.offset) for piece in pieces}) != len(pieces):
        raise ValueError(f"pieces do not cover {', '.join(wrong) or 'their tensors'} exactly once")
