"""What a checkpoint holds: weights and the optimizer's state, as Megatron shards them, saved and loaded."""

from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_outplace, nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory, is_main_replica

from nemo_adapt import devices
from nemo_adapt.train.new_rows import NAME as NEW_ROWS
from nemo_adapt.train.setup import Trainer

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer's format that loads at another TP, PP or DP (``mends.save_own_parts``).

Megatron is given a copy each time: it notes the process group in it, which must not outlive the group."""
SHARDED = ShardedTensor, ShardedTensorFactory
"""What has a tensor's data; a factory's is cut into several tensors when it is saved."""


def saved_state(trainer: Trainer) -> dict[str, Any]:
    """What is saved, copied where this rank trains on in the same memory; from a GPU it is copied anyway.

    Numbers that are not sharded are sent to all ranks: on the CPU, or each would take memory of the first one's GPU.
    """
    state = {"model": weights_to_save(trainer.chunks), **optimizer_state(trainer, is_loading=False)}
    state = dict_list_map_outplace(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, state)
    for tensor in nested_values(state):
        if isinstance(tensor, SHARDED) and is_main_replica(tensor.replica_id):
            tensor.data = tensor.data.detach()
            if tensor.data.is_cpu:
                tensor.data = tensor.data.clone()
    return state


def load_model(checkpoint: Path, chunks: list[Any]) -> dict[str, Any]:
    """Load the weights into the bare model ``chunks``, and return the saved progress."""
    state = dist_checkpointing.load({"model": model_state(chunks)}, str(checkpoint))
    for number, chunk in enumerate(chunks):
        chunk.load_state_dict(state["model"][str(number)])
    return dict(state["progress"])


def load_optimizer(checkpoint: Path, trainer: Trainer) -> None:
    """Load optimizer and schedule, in the phase in which they were saved."""
    wanted = optimizer_state(trainer, is_loading=True)
    state = dist_checkpointing.load(wanted, str(checkpoint))
    trainer.scheduler.load_state_dict(state["scheduler"])
    devices.load_optimizer_state(trainer.optimizer, state["optimizer"], trainer.scheduler.num_steps)


def model_state(chunks: list[Any], **how: bool) -> dict[str, Any]:
    """Every parameter as Megatron shards it; also new rows, while they are parameters of their own."""
    return {str(number): chunk.sharded_state_dict(metadata=SHARDING | how) for number, chunk in enumerate(chunks)}


def weights_to_save(chunks: list[Any]) -> dict[str, Any]:
    """The weights, each for one rank of its DP group to write: the one that has least so far.

    New rows are in the tables: only the optimizer's state is theirs alone.
    """
    state = {
        number: {name: tensor for name, tensor in tensors.items() if not name.startswith(NEW_ROWS)}
        for number, tensors in model_state(chunks).items()
    }
    rank = parallel_state.get_data_parallel_rank(with_context_parallel=True)
    written = [0] * parallel_state.get_data_parallel_world_size(with_context_parallel=True)
    tensors = [tensor for tensor in nested_values(state) if isinstance(tensor, SHARDED)]
    for tensor in sorted(tensors, key=lambda tensor: -tensor.data.numel()):
        *others, _ = tensor.replica_id  # the last is the DP rank, as Megatron numbers replicas
        if not any(others):
            writer = written.index(min(written))
            written[writer] += tensor.data.numel()
            tensor.replica_id = (*others, (rank - writer) % len(written))
    return state


def optimizer_state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    """State of what is trained. Layers have keys of their own: as parts of one tensor all of them would have to be
    there, and a phase may train some."""
    model = model_state(trainer.chunks, non_homogeneous_layers=True)
    return {
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(SHARDING)),
        "scheduler": trainer.scheduler.state_dict(),
    }
