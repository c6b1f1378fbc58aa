"""Rotary frequencies, as transformers computes them (transformers/modeling_rope_utils.py)."""

import math

import torch

from nemo_adapt.families.family import Rotary


def inverse_frequencies(rotary: Rotary, head_dim: int, device: torch.device) -> torch.Tensor:
    """Radians by which each pair of columns turns from one position to the next: [columns / 2], float32."""
    columns = int(head_dim * rotary.share)
    exponents = torch.arange(0, columns, 2, dtype=torch.float32, device=device) / columns
    plain = 1.0 / rotary.base**exponents
    if not rotary.scaling:
        return plain
    if "linear" in rotary.scaling:
        return plain / rotary.scaling["linear"]
    return _llama3(plain, **rotary.scaling)


def _llama3(
    plain: torch.Tensor,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: float,
) -> torch.Tensor:
    """Long waves are slowed by ``factor``, short ones stay, those between are blended (Llama 3.1, arXiv 2407.21783)."""
    waves = original_max_position_embeddings * plain / (2 * math.pi)  # in the original context
    kept = ((waves - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0)
    return plain * kept + plain / factor * (1.0 - kept)
