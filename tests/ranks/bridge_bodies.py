"""Code of the ranks in tests of checkpoints for Megatron-Bridge: load what its Transformer Engine model needs."""

from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing import ShardedObject, ShardedTensor
from torch.distributed.checkpoint.api import CheckpointException

TABLE = "embedding.word_embeddings.weight"
EXTRA = "decoder.layers.mlp.linear_fc1._extra_state"


def load(rank: int, checkpoint: Path, rows: int, columns: int) -> tuple[torch.Tensor, Any]:
    """Load this rank's half of a table of ``rows`` rows (the checkpoint may have fewer) and layer ``rank``'s state."""
    half = torch.full((rows // 2, columns), 9.0)
    table = ShardedTensor.from_rank_offsets(TABLE, half, (0, rank, 2), allow_shape_mismatch=True)
    state = ShardedObject(EXTRA, None, (2,), (rank,))
    try:
        found = dist_checkpointing.load({"table": table, "state": state}, str(checkpoint))
    except CheckpointException as error:  # not a subclass of Exception
        raise ValueError(str(error)) from None
    return found["table"], found["state"]
