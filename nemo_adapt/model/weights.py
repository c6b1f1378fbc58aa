"""A model's weights in checkpoints, sharded by Megatron; one rank of a DP group reads and writes each of them."""

from collections.abc import Container
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

SHARDED = ShardedTensor, ShardedTensorFactory
"""Types that hold a tensor's data; a factory's is split into several tensors when it is saved."""

Weights = dict[str, dict[str, Any]]
"""Chunk number -> parameter name -> its sharded tensor."""


def replicas() -> dist.ProcessGroup:
    """Return the group of ranks that hold the same weights as this one."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def sharded_weights(chunks: list[Any], **how: Any) -> Weights:
    """Return every parameter of the bare model ``chunks``, including separate new rows; ``how`` is Megatron's metadata.

    The extra states of Transformer Engine's modules (scales of fp8, which is not used) are left out, so that
    checkpoints of its layers load into ours and the reverse.
    """
    weights = {}
    for number, chunk in enumerate(chunks):
        state = chunk.sharded_state_dict(metadata=dict(how))
        weights[str(number)] = {name: value for name, value in state.items() if isinstance(value, SHARDED)}
        missing = {name for name, _ in chunk.named_parameters()} - weights[str(number)].keys()
        assert not missing, missing  # they would be neither saved nor loaded
    return weights


def assign_holders(weights: Weights) -> dict[tuple[str, str], int]:
    """Return by chunk and name the rank of its DP group that reads or writes a weight, balanced by size.

    All ranks of the group get the same result. Sets ``replica_id`` in ``weights``, so that this rank's copy is the main
    one.
    """
    group = replicas()
    assigned = [0] * group.size()
    by_size = sorted(
        ((number, name, value) for number, state in weights.items() for name, value in state.items()),
        key=lambda each: -each[2].data.numel(),
    )
    holders = {}
    for number, name, value in by_size:
        holder = holders[number, name] = assigned.index(min(assigned))
        assigned[holder] += value.data.numel()
        *others, _ = value.replica_id  # the last is the DP rank, as Megatron numbers replicas
        value.replica_id = (*others, (group.rank() - holder) % group.size())
    return holders


def load_weights(chunks: list[Any], checkpoint: Path, left_out: Container[str] = ()) -> dict[str, Any]:
    """Load ``checkpoint`` into the bare model ``chunks``; return what is in it that is not sharded.

    Tensors whose key is in ``left_out`` stay as they are; all others must be there. A rank reads its share and
    broadcasts it to its DP group, so a file is read only once for each part that TP and PP cut it into.
    """
    weights = {
        number: {name: value for name, value in state.items() if value.key not in left_out}
        for number, state in sharded_weights(chunks).items()
    }
    group, holders = replicas(), assign_holders(weights)
    mine = {
        number: {name: value for name, value in state.items() if holders[number, name] == group.rank()}
        for number, state in weights.items()
    }
    loaded = dist_checkpointing.load({"model": mine}, str(checkpoint))
    states = loaded.pop("model", {})  # a rank may have no share
    for number, chunk in enumerate(chunks):
        answer = chunk.load_state_dict(states.get(str(number), {}), strict=False)
        assert not answer.unexpected_keys, answer
    for (chunk_number, name), holder in holders.items():
        weight = attrgetter(name)(chunks[int(chunk_number)])  # a parameter or a buffer
        dist.broadcast(weight.detach(), group=group, group_src=holder)
    return dict(loaded)
