"""Code of the ranks in end-to-end tests: the training stage, and logits with something broken on purpose."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from helpers.folders import Folders
from ranks import model_bodies

from nemo_adapt.config import Config
from nemo_adapt.model import attention
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.train import stage


def train(rank: int, config: Config, inputs: Inputs, out: Path) -> None:
    """Run the ``train`` stage."""
    stage.build(config, inputs, out)


def best_text(rank: int, config: Config, model: Path) -> tuple[dict[str, Any] | None, int]:
    """Return what the best checkpoint is chosen by, and how many files this rank has hashed for it."""
    with patch.object(stage, "file_hash", wraps=stage.file_hash) as hashing:
        return stage._chosen_by(config, model), hashing.call_count


def logits_with_wrong_slopes(rank: int, config: Config, folders: Folders, ids: torch.Tensor) -> torch.Tensor | None:
    """Return logits with a bug: every rank uses the ALiBi slopes of the first rank's heads."""
    first = lambda self, heads, device: attention.alibi_slopes(self.config.num_attention_heads, device)[:heads]  # noqa: E731
    with patch.object(attention.CoreAttention, "_slopes", first):
        return model_bodies.logits(rank, config, folders, ids)
