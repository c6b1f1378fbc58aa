"""Training checkpoints: saved whole or not at all, loaded at any layout."""

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.reader import complete
from nemo_adapt.train.setup import Trainer

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer's format that loads at another TP, PP or DP (the others fail there, megatron-core 0.16.1).

Megatron is given a copy each time: it notes the process group in it, which must not outlive the group."""


def save(folder: Path, trainer: Trainer, progress: dict[str, Any], keep: int) -> None:
    """Save as ``folder/iter_0000100`` for ``progress["step"] == 100``; then delete all but the newest ``keep``.

    A collective. The folder gets its name only when everything is in it.
    """
    place = folder / f"iter_{progress['step']:07d}"
    partial = place.with_name(place.name + ".partial")
    if dist.get_rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    model = trainer.bare_model.sharded_state_dict(metadata=dict(SHARDING))
    state = {"model": model, **_optimizer_state(trainer, model, is_loading=False), "progress": progress}
    dist_checkpointing.save(state, str(partial))
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
        for old in complete(folder)[: -max(1, keep)]:
            shutil.rmtree(old)
    dist.barrier()


def load_model(checkpoint: Path, model: Any) -> dict[str, Any]:
    """Load the weights into a bare ``model``, and return the saved progress."""
    state = dist_checkpointing.load({"model": model.sharded_state_dict(metadata=dict(SHARDING))}, str(checkpoint))
    model.load_state_dict(state["model"])
    return dict(state["progress"])


def load_optimizer(checkpoint: Path, trainer: Trainer) -> None:
    """Load optimizer and schedule, in the phase in which they were saved."""
    model = trainer.bare_model.sharded_state_dict(metadata=dict(SHARDING))
    state = dist_checkpointing.load(_optimizer_state(trainer, model, is_loading=True), str(checkpoint))
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scheduler.load_state_dict(state["scheduler"])


def _optimizer_state(trainer: Trainer, model: dict[str, Any], is_loading: bool) -> dict[str, Any]:
    return {
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(SHARDING)),
        "scheduler": trainer.scheduler.state_dict(),
    }
