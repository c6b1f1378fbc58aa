"""A model's weights in checkpoints, as Megatron shards them: each is read, and written, by one rank of its DP group."""

from collections.abc import Container
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

SHARDED = ShardedTensor, ShardedTensorFactory
"""What has a tensor's data; a factory's is cut into several tensors when it is saved."""

Weights = dict[str, dict[str, Any]]
"""Number of a chunk -> name of a parameter -> how it is sharded."""


def replicas() -> dist.ProcessGroup:
    """The ranks that have the same weights as this one."""
    return parallel_state.get_data_parallel_group(with_context_parallel=True)


def sharded_weights(chunks: list[Any], **how: Any) -> Weights:
    """Every parameter of the bare model ``chunks``; also new rows, while they are parameters of their own.

    The states that Transformer Engine's modules have beside them (scales of fp8, which is not used) are left out: what
    its layers have saved loads into ours, and what ours have into its.
    """
    weights = {}
    for number, chunk in enumerate(chunks):
        state = chunk.sharded_state_dict(metadata=dict(how))
        weights[str(number)] = {name: value for name, value in state.items() if isinstance(value, SHARDED)}
        forgotten = {name for name, _ in chunk.named_parameters()} - weights[str(number)].keys()
        assert not forgotten, forgotten  # they would be neither saved nor loaded
    return weights


def share_out(weights: Weights) -> dict[tuple[str, str], int]:
    """Chunk and name -> the rank of its DP group that reads or writes it: the one that has least so far.

    All ranks of the group come to the same. ``weights`` name that rank as the one whose copy counts.
    """
    group = replicas()
    given = [0] * group.size()
    by_size = sorted(
        ((number, name, value) for number, state in weights.items() for name, value in state.items()),
        key=lambda each: -each[2].data.numel(),
    )
    holders = {}
    for number, name, value in by_size:
        holder = holders[number, name] = given.index(min(given))
        given[holder] += value.data.numel()
        *others, _ = value.replica_id  # the last is the DP rank, as Megatron numbers replicas
        value.replica_id = (*others, (group.rank() - holder) % group.size())
    return holders


def load_weights(chunks: list[Any], checkpoint: Path, left_out: Container[str] = ()) -> dict[str, Any]:
    """Fill the bare model ``chunks`` from ``checkpoint``; returns what is in it that is not sharded.

    Tensors whose key is ``left_out`` stay as they are; of the others each must be there. A rank reads its share, and
    sends it to those of its DP group, which have the same weights: a file is read as often as TP and PP cut it up.
    """
    weights = {
        number: {name: value for name, value in state.items() if value.key not in left_out}
        for number, state in sharded_weights(chunks).items()
    }
    group, holders = replicas(), share_out(weights)
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
        dist.broadcast(chunks[int(chunk_number)].get_parameter(name).detach(), group=group, group_src=holder)
    return dict(loaded)
