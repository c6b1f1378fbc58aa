"""Rotary positions: frequencies as transformers computes them (modeling_rope_utils.py), applied by position ids."""

import math
from typing import Any

import torch

from nemo_adapt.families.family import Rotary


def inverse_frequencies(rotary: Rotary, head_dim: int, device: torch.device) -> torch.Tensor:
    """Return the radians by which each pair of columns turns per position: [columns / 2], float32."""
    columns = int(head_dim * rotary.share)
    exponents = torch.arange(0, columns, 2, dtype=torch.float32, device=device) / columns
    plain = 1.0 / rotary.base**exponents
    if not rotary.scaling:
        return plain
    if "linear" in rotary.scaling:
        return plain / rotary.scaling["linear"]
    return _llama3(plain, **rotary.scaling)


def rotate_by_positions(model: Any) -> None:
    """Make a GPTModel take its rotary angles at the position ids that it is called with, [batch or 1, seq].

    As shipped (gpt_model.py) it uses the index in the sample and ignores position ids. The angles are [seq, batch or 1,
    1, columns]. Under context parallelism position ids are those of this rank's part, so Megatron must not split the
    angles of the whole sequence: its CP group is removed.
    """
    called_with: list[torch.Tensor | None] = [None]

    def note(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        called_with[0] = named["position_ids"] if "position_ids" in named else arguments[1]

    def pick(module: Any, arguments: Any, angles: torch.Tensor) -> torch.Tensor | None:
        positions = called_with[0]
        return None if positions is None else angles[:, 0, 0][positions.T].unsqueeze(2)

    model.rotary_pos_emb.cp_group = None
    model.register_forward_pre_hook(note, with_kwargs=True)
    model.rotary_pos_emb.register_forward_hook(pick)


def _llama3(
    plain: torch.Tensor,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> torch.Tensor:
    """Slow long waves by ``factor``, keep short ones, and blend those between (Llama 3.1, arXiv 2407.21783)."""
    turns = original_max_position_embeddings * plain / (2 * math.pi)  # within the original context
    kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0)
    return plain * kept + plain / factor * (1.0 - kept)
