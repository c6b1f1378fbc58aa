"""What ranks do in tests of the resize engine, without a model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.resize import table
from nemo_adapt.resize.engine import resize_shard
from nemo_adapt.resize.plan import Materials, RowPlan, strategies
from nemo_adapt.token_map import NewToken, TokenMap


def plan_for(spelled: list[list[int]], source_vocab: int) -> RowPlan:
    """The subword-mean plan of tokens spelled by the given pieces."""
    tokens = [NewToken(source_vocab + i, "t", "t", ids, 1, 1) for i, ids in enumerate(spelled)]
    return strategies.get("subword_mean").plan(Materials(TokenMap(source_vocab, tokens)))


def resize_alone(source: torch.Tensor, plan: RowPlan, padded: int) -> torch.Tensor:
    """The whole resized table, in one process."""
    alone = table.ShardedTable(source, (0, len(source)))
    return resize_shard(alone, plan, len(source), 0, padded, seed=0)


@dataclass(frozen=True)
class Counting(table.ShardedTable):
    """A table that notes how many rows its largest exchange asked for."""

    largest: Any = None

    def fetch(self, wanted: np.ndarray) -> torch.Tensor:
        self.largest.append(len(wanted))
        return super().fetch(wanted)


def resize_sharded(
    rank: int, source: torch.Tensor, spelled: list[list[int]], padded: int, chunk: int, shift: int = 0
) -> tuple[torch.Tensor, int]:
    """This rank's half of the resized table, and the largest exchange; ``shift`` misplaces the rows on purpose."""
    table.EXCHANGE_BYTES = chunk
    bounds = (0, 20, 50)  # uneven on purpose
    rows = source.roll(-shift, 0)[bounds[rank] : bounds[rank + 1]]
    shard = Counting(rows, bounds, dist.group.WORLD, [])
    half = padded // 2
    made = resize_shard(shard, plan_for(spelled, 50), 50, rank * half, (rank + 1) * half, seed=0)
    return made, max(shard.largest)
