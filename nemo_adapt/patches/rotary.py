"""Rotary positions with less than half of megatron-core's passes over memory without Transformer Engine."""

from typing import Any

import torch

from nemo_adapt.machine import fusion


def fuse_rotary(rope_utils: Any) -> None:
    """Apply rotary positions in few passes over queries and keys, saving only the angles for the backward pass.

    As shipped (rope_utils.py) that needs Transformer Engine's kernel, which uses the same angles for all samples;
    without it there are five operations, each of which writes everything.
    """
    kernel = rope_utils.fused_apply_rotary_pos_emb

    def fused(heads: torch.Tensor, angles: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
        assert not interleaved
        return kernel(heads, angles) if kernel and angles.shape[1] == 1 else apply_rotary(heads, angles)

    rope_utils.fused_apply_rotary_pos_emb = fused


def apply_rotary(heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotate the first columns of ``heads`` [seq, batch, heads, dim] in pairs (i, i + columns / 2) by ``angles``.

    ``angles`` [seq, batch or 1, 1, columns]; both halves of the columns are the same. Takes less than half the passes
    over memory of Megatron's own (megatron/core/models/common/embeddings/rope_utils.py), and saves only the angles.
    """
    out: torch.Tensor = _ApplyRotary.apply(heads, angles)
    return out


class _ApplyRotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(angles)
        return _rotate(heads, angles, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (angles,) = ctx.saved_tensors
        return _rotate(gradients[0], angles, -1), None


def _rotate(heads: torch.Tensor, angles: torch.Tensor, direction: int) -> torch.Tensor:
    columns = angles.shape[-1]
    half = columns // 2
    of_half = angles[..., :half]
    cosines, sines = (part.to(heads.dtype) for part in (of_half.cos(), direction * of_half.sin()))
    if fusion.compiles():
        rotated: torch.Tensor = fusion.compiled(_rotated)(heads, cosines, sines)
        return rotated
    out = torch.empty_like(heads, memory_format=torch.contiguous_format)
    first, second = heads[..., :half], heads[..., half:columns]
    torch.mul(first, cosines, out=out[..., :half]).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=out[..., half:columns]).addcmul_(first, sines)
    out[..., columns:] = heads[..., columns:]
    return out


def _rotated(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    half = cosines.shape[-1]
    first, second, rest = heads.split((half, half, heads.shape[-1] - 2 * half), -1)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines, rest), -1)
