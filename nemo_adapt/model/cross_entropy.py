"""Cross entropy over logits sharded over TP, in the memory of the logits."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices
from nemo_adapt.machine import fusion
from nemo_adapt.tokens.vocab import LOGITS_AT_ONCE

COMPILED_AT_ONCE = 512 * 2**20
"""Bytes of fp32 logits that a compiled kernel gets at a time. The first call times variants of the kernel on a copy of
the logits that it overwrites."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, z_loss: float = 0.0) -> torch.Tensor:
    """Return the nats of each position, fp32 [seq, batch], from this TP rank's ``logits`` [seq, batch, vocab / TP].

    ``labels`` [seq, batch]. ``z_loss`` times the squared log of the softmax denominator (arXiv 2204.02311, section 5)
    is in the gradient, but not in the nats.

    The backward pass overwrites the logits with their gradient, so nothing else may need them by then. Nats, and
    gradients of fp32 logits, are bit-identical to those of Megatron's ``vocab_parallel_cross_entropy``
    (megatron/core/tensor_parallel/cross_entropy.py), which keeps an fp32 softmax of all logits until the backward pass;
    this recomputes it, a portion at a time. Gradients of bf16 logits are rounded once, from fp32. Where functions can
    be compiled (``fusion``), three kernels read the logits, and one of them writes; sums are then in another order.
    """
    losses: torch.Tensor = _CrossEntropy.apply(logits, labels, z_loss)
    return losses


class _CrossEntropy(torch.autograd.Function):
    """With the names of Megatron's ``VocabParallelCrossEntropy``; ``flat``: the logits as [positions, vocab / TP]."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, z_loss: float) -> torch.Tensor:
        group, width = parallel_state.get_tensor_model_parallel_group(), logits.shape[-1]
        flat = logits.view(-1, width)
        masked_target = labels.reshape(-1, 1) - width * parallel_state.get_tensor_model_parallel_rank()
        target_mask = (masked_target < 0) | (masked_target >= width)
        masked_target = masked_target.masked_fill(target_mask, 0)
        logits_max = flat.amax(-1, keepdim=True).float()
        dist.all_reduce(logits_max, dist.ReduceOp.MAX, group=group)
        sum_exp_logits = (_sums_compiled if fusion.compiles() else _sums)(flat, logits_max)
        predicted = flat.gather(1, masked_target).float() - logits_max
        predicted.masked_fill_(target_mask, 0.0)
        dist.all_reduce(predicted, group=group)
        dist.all_reduce(sum_exp_logits, group=group)
        ctx.save_for_backward(logits, logits_max, sum_exp_logits, masked_target, target_mask)
        ctx.z_loss = z_loss
        return (sum_exp_logits.log() - predicted).view(labels.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, logits_max, sum_exp_logits, masked_target, target_mask = ctx.saved_tensors
        flat, gradient = logits.view(-1, logits.shape[-1]), gradients[0].reshape(-1, 1)
        times = 1.0 + 2.0 * ctx.z_loss * (sum_exp_logits.log() + logits_max)  # d log(Z)^2 = 2 log(Z) x softmax
        of = _Positions(logits_max, sum_exp_logits, times, masked_target, target_mask, gradient)
        if fusion.compiles():
            _differentiate_compiled(flat, of)
        elif flat.dtype == torch.float32:
            _differentiate_fp32(flat, of, ctx.z_loss > 0)
        else:
            _differentiate_bf16(flat, of)
        return logits, None, None


class _Positions(NamedTuple):
    """What the gradient needs of each position besides its logits, all [positions, 1]."""

    logits_max: torch.Tensor
    """Highest logit."""
    sum_exp_logits: torch.Tensor
    """Sum of exp(logits - highest logit)."""
    times: torch.Tensor
    """Factor on the softmax in the gradient: 1 without z-loss."""
    masked_target: torch.Tensor
    """The label's column among this rank's logits; 0 if another rank has it."""
    target_mask: torch.Tensor
    """Whether another rank has the label."""
    gradient: torch.Tensor
    """Gradient of the position's nats."""

    def part(self, portion: slice) -> "_Positions":
        return _Positions(*(each[portion] for each in self))


def _sums(flat: torch.Tensor, logits_max: torch.Tensor) -> torch.Tensor:
    """Return the sum of exp(logits - highest logit) of each position."""
    sum_exp_logits, buffer = torch.empty_like(logits_max), _buffer(flat)
    for part in _portions(flat):
        torch.sum(_exp_logits(flat[part], logits_max[part], buffer), -1, keepdim=True, out=sum_exp_logits[part])
    return sum_exp_logits


def _sums_compiled(flat: torch.Tensor, logits_max: torch.Tensor) -> torch.Tensor:
    """The same, in one pass over the logits."""
    sums = fusion.compiled(_sum_exp_logits)
    return torch.cat([sums(flat[part], logits_max[part]) for part in _portions(flat, COMPILED_AT_ONCE)])


def _sum_exp_logits(flat: torch.Tensor, logits_max: torch.Tensor) -> torch.Tensor:
    return (flat.float() - logits_max).exp().sum(-1, keepdim=True)


def _differentiate_fp32(flat: torch.Tensor, of: _Positions, has_z_loss: bool) -> None:
    """Overwrite logits with their gradient by the same operations as Megatron's, in the memory of the logits."""
    for portion in _portions(flat):
        mine, part = flat[portion], of.part(portion)
        softmax = _exp_logits(mine, part.logits_max, mine).div_(part.sum_exp_logits)
        if has_z_loss:
            softmax.mul_(part.times)
        softmax.scatter_add_(1, part.masked_target, part.target_mask.float() - 1.0).mul_(part.gradient)


def _differentiate_bf16(flat: torch.Tensor, of: _Positions) -> None:
    """The same; logits are scaled and rounded in one operation. The label's value, a difference, is computed apart."""
    buffer = _buffer(flat)
    for portion in _portions(flat):
        mine, part = flat[portion], of.part(portion)
        exp_logits, factor = _exp_logits(mine, part.logits_max, buffer), part.gradient / part.sum_exp_logits
        one = part.sum_exp_logits.masked_fill(part.target_mask, 0.0)
        at_label = (exp_logits.gather(1, part.masked_target) * part.times - one) * factor
        torch.mul(exp_logits, factor * part.times, out=mine)
        mine.scatter_(1, part.masked_target, at_label.to(mine.dtype))


def _differentiate_compiled(flat: torch.Tensor, of: _Positions) -> None:
    """The same, in one pass over the logits."""
    for portion in _portions(flat, COMPILED_AT_ONCE):
        fusion.compiled(_to_gradient)(flat[portion], *of.part(portion))


def _to_gradient(
    flat: torch.Tensor,
    logits_max: torch.Tensor,
    sum_exp_logits: torch.Tensor,
    times: torch.Tensor,
    masked_target: torch.Tensor,
    target_mask: torch.Tensor,
    gradient: torch.Tensor,
) -> None:
    softmax = (flat.float() - logits_max).exp() / sum_exp_logits
    is_label = torch.arange(flat.shape[1], device=flat.device) == torch.where(target_mask, -1, masked_target)
    flat.copy_((softmax * times - is_label.float()) * gradient)


def _exp_logits(flat: torch.Tensor, logits_max: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return exp(logits - highest logit of the position), fp32, at the beginning of ``out``."""
    return torch.sub(flat, logits_max, out=out[: len(flat)]).exp_()


def _buffer(flat: torch.Tensor) -> torch.Tensor:
    """Return an fp32 buffer that all portions use in turn. On a GPU, conversion to and from bf16 is then part of the
    operation and not a pass of its own."""
    return torch.empty(min(len(flat), _portion_size(flat)), flat.shape[1], dtype=torch.float32, device=flat.device)


def _portions(flat: torch.Tensor, at_once: int | None = None) -> Iterator[slice]:
    size = _portion_size(flat, at_once)
    for first in range(0, len(flat), size):
        yield slice(first, first + size)


def _portion_size(flat: torch.Tensor, at_once: int | None = None) -> int:
    """Return the number of positions that have ``at_once`` (default: ``LOGITS_AT_ONCE``) bytes of logits in fp32."""
    return max(1, (at_once or LOGITS_AT_ONCE[devices.on_gpu()]) // (4 * flat.shape[-1]))
