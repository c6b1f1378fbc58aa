"""The state in a training checkpoint: weights and optimizer state, sharded by Megatron."""

from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_outplace, nested_values
from megatron.core.dist_checkpointing.mapping import is_main_replica

from nemo_adapt.model.weights import SHARDED, Weights, assign_holders, load_weights, sharded_weights
from nemo_adapt.train import adam
from nemo_adapt.train.new_rows import NAME as NEW_ROWS
from nemo_adapt.train.setup import Trainer

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer state format that loads at another TP, PP or DP (``patches.checkpoints.save_own_parts``).

Megatron stores the process group in it, so each call gets a new copy, which does not outlive the group."""


def saved_state(trainer: Trainer) -> dict[str, Any]:
    """Return the state to save. A collective.

    What this rank continues to train in CPU memory is copied here; tensors on a GPU are copied when they are written.
    Unsharded tensors are moved to the CPU: they are broadcast as objects, and on every rank would take memory of the
    first rank's GPU.
    """
    trainer.gather()
    state = {"model": weights_to_save(trainer.chunks), **optimizer_state(trainer, is_loading=False)}
    state = dict_list_map_outplace(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, state)
    for tensor in nested_values(state):
        if isinstance(tensor, SHARDED) and is_main_replica(tensor.replica_id):
            tensor.data = tensor.data.detach()
            if tensor.data.is_cpu:
                tensor.data = tensor.data.clone()
    return state


def load_model(checkpoint: Path, chunks: list[Any]) -> dict[str, Any]:
    """Load the weights into the bare model ``chunks``; return the saved progress."""
    return dict(load_weights(chunks, checkpoint)["progress"])


def load_optimizer(checkpoint: Path, trainer: Trainer) -> None:
    """Load optimizer and schedule state; ``trainer`` must be of the phase in which it was saved."""
    wanted = optimizer_state(trainer, is_loading=True)
    state = dist_checkpointing.load(wanted, str(checkpoint))
    trainer.scheduler.load_state_dict(state["scheduler"])
    adam.load(trainer.optimizer, state["optimizer"], trainer.scheduler.num_steps)


def weights_to_save(chunks: list[Any]) -> Weights:
    """Return the weights, each assigned to one rank of its DP group to write.

    Separate new rows are left out, as the tables contain them; only their optimizer state is saved separately.
    """
    weights = {
        number: {name: value for name, value in state.items() if not name.startswith(NEW_ROWS)}
        for number, state in sharded_weights(chunks).items()
    }
    assign_holders(  # only what no other TP rank or stage writes
        {
            number: {name: value for name, value in state.items() if not any(value.replica_id[:-1])}
            for number, state in weights.items()
        }
    )
    return weights


def optimizer_state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    """Return the optimizer and schedule state of what is trained.

    Each layer has its own keys: stacked into one tensor, all layers would have to be there, and a phase may train only
    some.
    """
    model = sharded_weights(trainer.chunks, non_homogeneous_layers=True)
    return {
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(SHARDING)),
        "scheduler": trainer.scheduler.state_dict(),
    }
