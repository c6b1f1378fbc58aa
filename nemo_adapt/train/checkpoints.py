"""Training checkpoints: saved whole or not at all, loaded at any layout."""

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist
from megatron.core import dist_checkpointing

from nemo_adapt.checkpoint.reader import complete
from nemo_adapt.train.setup import Trainer

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer's format that loads at another TP, PP or DP (the others fail there, megatron-core 0.16.1)."""


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
    dist_checkpointing.save({**_state(trainer, False), "progress": progress}, str(partial))
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
        for old in complete(folder)[: -max(1, keep)]:
            shutil.rmtree(old)
    dist.barrier()


def load(checkpoint: Path, trainer: Trainer) -> dict[str, Any]:
    """Load model, optimizer and schedule, and return the saved progress."""
    state = dist_checkpointing.load(_state(trainer, True), str(checkpoint))
    trainer.bare_model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scheduler.load_state_dict(state["scheduler"])
    return dict(state["progress"])


def _state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    model = trainer.bare_model.sharded_state_dict(metadata=SHARDING)
    return {
        "model": model,
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=SHARDING),
        "scheduler": trainer.scheduler.state_dict(),
    }
