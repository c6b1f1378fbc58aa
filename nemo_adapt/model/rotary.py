"""Rotary positions: frequencies as transformers computes them (its modeling_rope_utils.py), and turning by them."""

import math
from typing import Any

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


def turn_by_positions(model: Any) -> None:
    """Have a GPTModel's rotary angles taken at the position ids that it is called with, [batch or 1, seq].

    As shipped (gpt_model.py) it turns by places in the sample, whatever the position ids say. The angles are [seq,
    batch or 1, 1, columns]. Under context parallelism position ids are those of this rank's part, so that the angles of
    the whole sequence must not have been cut.
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


def turned(heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """``heads`` [seq, batch, heads, dim] turned by ``angles`` [seq, batch or 1, 1, columns], as the two halves of their
    first columns; both halves have the same angles.

    Less than half the passes over memory that Megatron's own makes (megatron/core/models/common/embeddings/
    rope_utils.py), and nothing is kept but the angles.
    """
    out: torch.Tensor = _Turned.apply(heads, angles)
    return out


class _Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(angles)
        return _turn(heads, angles, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (angles,) = ctx.saved_tensors
        return _turn(gradients[0], angles, -1), None


def _turn(heads: torch.Tensor, angles: torch.Tensor, direction: int) -> torch.Tensor:
    columns = angles.shape[-1]
    half = columns // 2
    cosines, sines = (part.to(heads.dtype) for part in (angles[..., :half].cos(), angles[..., :half].sin()))
    out = torch.empty_like(heads, memory_format=torch.contiguous_format)
    first, second = heads[..., :half], heads[..., half:columns]
    torch.mul(first, cosines, out=out[..., :half]).addcmul_(second, sines, value=-direction)
    torch.mul(second, cosines, out=out[..., half:columns]).addcmul_(first, sines, value=direction)
    out[..., columns:] = heads[..., columns:]
    return out


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
