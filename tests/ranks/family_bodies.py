"""Code of the ranks in tests of the families: logits, and gradients saved as a checkpoint like the weights."""

from pathlib import Path

import torch
from helpers.folders import Folders
from megatron.core import dist_checkpointing
from ranks.model_bodies import forward, load, logits

from nemo_adapt import families
from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.families.family import Family
from nemo_adapt.train.batches import Batch
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.setup import build_trainer
from nemo_adapt.train.step import forward_backward


def logits_and_gradients(
    rank: int, config: Config, folders: Folders, ids: torch.Tensor, saved: Path, gradients: Path
) -> torch.Tensor | None:
    """Return logits of ``ids[:, :-1]`` ([batch, seq + 1]); save the loaded weights and gradients of the mean loss."""
    config.train.distributed_optimizer = False  # every rank keeps complete gradients
    model = load(config, folders)
    state = model.sharded_state_dict()
    dist_checkpointing.save({"model": state}, str(saved))
    found = forward(model.eval(), ids[:, :-1])
    trainer = build_trainer([model.train()], config.train, PhaseConfig(steps=1, lr=1e-3), RowRange(0, 0))
    trainer.wrapped[0].zero_grad_buffer()
    positions = torch.arange(ids.shape[1] - 1, device=ids.device)[None]
    batch = Batch(ids[:, :-1], ids[:, 1:], positions)
    token_bytes = torch.ones(int(ids.max()) + 1, dtype=torch.int32, device=ids.device)
    forward_backward(trainer.wrapped, [batch.own_part()], token_bytes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.main_grad)
    dist_checkpointing.save({"model": model.sharded_state_dict()}, str(gradients))
    return found


def family_of(code: str, name: str) -> Family:
    """Return the family ``name`` that the code of docs/add-a-model.md defines."""
    made: dict[str, Family] = {}
    exec(compile(code, "docs/add-a-model.md", "exec"), made)
    return made[name]


def logits_with(
    rank: int, code: str, name: str, config: Config, folders: Folders, ids: torch.Tensor
) -> torch.Tensor | None:
    """Return logits of a model whose family is defined by ``code`` rather than by the package."""
    ours = families.FAMILIES
    families.FAMILIES = (*ours, family_of(code, name))
    try:
        return logits(rank, config, folders, ids)
    finally:
        families.FAMILIES = ours
