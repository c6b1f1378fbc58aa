"""What a checkpoint holds: weights and the optimizer's state, as Megatron shards them, saved and loaded."""

from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.dict_utils import dict_list_map_outplace, nested_values
from megatron.core.dist_checkpointing.mapping import is_main_replica

from nemo_adapt.model.weights import SHARDED, Weights, load_weights, sharded_weights, share_out
from nemo_adapt.train import adam
from nemo_adapt.train.new_rows import NAME as NEW_ROWS
from nemo_adapt.train.setup import Trainer

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer's format that loads at another TP, PP or DP (``patches.checkpoints.save_own_parts``).

Megatron is given a copy each time: it notes the process group in it, which must not outlive the group."""


def saved_state(trainer: Trainer) -> dict[str, Any]:
    """What is saved, copied where this rank trains on in the same memory; from a GPU it is copied anyway. A collective.

    Numbers that are not sharded are sent to all ranks: on the CPU, or each would take memory of the first one's GPU.
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
    """Load the weights into the bare model ``chunks``, and return the saved progress."""
    return dict(load_weights(chunks, checkpoint)["progress"])


def load_optimizer(checkpoint: Path, trainer: Trainer) -> None:
    """Load optimizer and schedule, in the phase in which they were saved."""
    wanted = optimizer_state(trainer, is_loading=True)
    state = dist_checkpointing.load(wanted, str(checkpoint))
    trainer.scheduler.load_state_dict(state["scheduler"])
    adam.load(trainer.optimizer, state["optimizer"], trainer.scheduler.num_steps)


def weights_to_save(chunks: list[Any]) -> Weights:
    """The weights, each for one rank of its DP group to write.

    New rows are in the tables: only the optimizer's state is theirs alone.
    """
    weights = {
        number: {name: value for name, value in state.items() if not name.startswith(NEW_ROWS)}
        for number, state in sharded_weights(chunks).items()
    }
    share_out(  # what another TP rank or stage writes is nobody's work here
        {
            number: {name: value for name, value in state.items() if not any(value.replica_id[:-1])}
            for number, state in weights.items()
        }
    )
    return weights


def optimizer_state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    """State of what is trained. Layers have keys of their own: as parts of one tensor all of them would have to be
    there, and a phase may train some."""
    model = sharded_weights(trainer.chunks, non_homogeneous_layers=True)
    return {
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(SHARDING)),
        "scheduler": trainer.scheduler.state_dict(),
    }
