"""Rotary positions with less than half of megatron-core's passes over memory without Transformer Engine."""

from typing import Any

import torch

from nemo_adapt.machine import fusion


def fuse_rotary(rope_utils: Any) -> None:
    """Apply rotary positions in few passes over queries and keys, saving only the angles for the backward pass.

    As shipped (rope_utils.py) that needs Transformer Engine's kernel, which uses the same angles for all samples, and
    others for interleaved columns; without it there are five operations, each of which writes everything.
    """
    kernel = rope_utils.fused_apply_rotary_pos_emb

    def fused(heads: torch.Tensor, angles: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
        fits = kernel and angles.shape[1] == 1 and not interleaved
        return kernel(heads, angles) if fits else apply_rotary(heads, angles, interleaved)

    rope_utils.fused_apply_rotary_pos_emb = fused


def apply_rotary(heads: torch.Tensor, angles: torch.Tensor, interleaved: bool = False) -> torch.Tensor:
    """Rotate the first columns of ``heads`` [seq, batch, heads, dim] by ``angles``, in pairs (i, i + columns / 2) or,
    ``interleaved``, (2i, 2i + 1).

    ``angles`` [seq, batch or 1, 1, columns]; both halves of the columns are the same. Takes less than half the passes
    over memory of Megatron's own (megatron/core/models/common/embeddings/rope_utils.py), and saves only the angles.
    """
    out: torch.Tensor = _ApplyRotary.apply(heads, angles, interleaved)
    return out


class _ApplyRotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor, angles: torch.Tensor, interleaved: bool) -> torch.Tensor:
        ctx.save_for_backward(angles)
        ctx.interleaved = interleaved
        return _rotate(heads, angles, 1, interleaved)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (angles,) = ctx.saved_tensors
        return _rotate(gradients[0], angles, -1, ctx.interleaved), None, None


def _rotate(heads: torch.Tensor, angles: torch.Tensor, direction: int, interleaved: bool) -> torch.Tensor:
    columns = angles.shape[-1]
    half = columns // 2
    of_half = angles[..., :half]
    cosines, sines = (part.to(heads.dtype) for part in (of_half.cos(), direction * of_half.sin()))
    if fusion.compiles():
        rotated: torch.Tensor = fusion.compiled(_rotated)(heads, cosines, sines, interleaved)
        return rotated
    out = torch.empty_like(heads, memory_format=torch.contiguous_format)
    first, second = _pairs(heads[..., :columns], interleaved)
    into_first, into_second = _pairs(out[..., :columns], interleaved)
    torch.mul(first, cosines, out=into_first).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=into_second).addcmul_(first, sines)
    out[..., columns:] = heads[..., columns:]
    return out


def _pairs(turned: torch.Tensor, interleaved: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views of the first and of the second column of each pair."""
    half = turned.shape[-1] // 2
    return (turned[..., ::2], turned[..., 1::2]) if interleaved else (turned[..., :half], turned[..., half:])


def _rotated(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, interleaved: bool) -> torch.Tensor:
    columns = 2 * cosines.shape[-1]
    first, second = _pairs(heads[..., :columns], interleaved)
    both = torch.stack((first * cosines - second * sines, second * cosines + first * sines), -1 if interleaved else -2)
    return torch.cat((both.flatten(-2), heads[..., columns:]), -1)
