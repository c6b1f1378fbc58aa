"""Cross entropy over logits sharded over TP, in the memory of the logits."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices, fusion
from nemo_adapt.vocab import LOGITS_AT_ONCE

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
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, z_loss: float) -> torch.Tensor:
        group, width = parallel_state.get_tensor_model_parallel_group(), logits.shape[-1]
        rows = logits.view(-1, width)
        column = labels.reshape(-1, 1) - width * parallel_state.get_tensor_model_parallel_rank()
        elsewhere = (column < 0) | (column >= width)
        column = column.masked_fill(elsewhere, 0)
        highest = rows.amax(-1, keepdim=True).float()
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
        sums = (_sums_compiled if fusion.compiles() else _sums)(rows, highest)
        predicted = rows.gather(1, column).float() - highest
        predicted.masked_fill_(elsewhere, 0.0)
        dist.all_reduce(predicted, group=group)
        dist.all_reduce(sums, group=group)
        ctx.save_for_backward(logits, highest, sums, column, elsewhere)
        ctx.z_loss = z_loss
        return (sums.log() - predicted).view(labels.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, highest, sums, column, elsewhere = ctx.saved_tensors
        rows, gradient = logits.view(-1, logits.shape[-1]), gradients[0].reshape(-1, 1)
        times = 1.0 + 2.0 * ctx.z_loss * (sums.log() + highest)  # d log(Z)^2 = 2 log(Z) x softmax
        of = _Positions(highest, sums, times, column, elsewhere, gradient)
        if fusion.compiles():
            _differentiate_compiled(rows, of)
        elif rows.dtype == torch.float32:
            _differentiate_fp32(rows, of, ctx.z_loss > 0)
        else:
            _differentiate_bf16(rows, of)
        return logits, None, None


class _Positions(NamedTuple):
    """What the gradient needs of each position besides its logits, all [positions, 1]."""

    highest: torch.Tensor
    """Highest logit."""
    sums: torch.Tensor
    """Sum of exp(logits - highest logit)."""
    times: torch.Tensor
    """Factor on the softmax in the gradient: 1 without z-loss."""
    column: torch.Tensor
    """This rank's column of the label; 0 if another rank has it."""
    elsewhere: torch.Tensor
    """Whether another rank has the label."""
    gradient: torch.Tensor
    """Gradient of the position's nats."""

    def part(self, portion: slice) -> "_Positions":
        return _Positions(*(each[portion] for each in self))


def _sums(rows: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """Return the sum of exp(logits - highest logit) of each position."""
    sums, buffer = torch.empty_like(highest), _buffer(rows)
    for part in _portions(rows):
        torch.sum(_powers(rows[part], highest[part], buffer), -1, keepdim=True, out=sums[part])
    return sums


def _sums_compiled(rows: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """The same, in one pass over the logits."""
    sums = fusion.compiled(_sum_of_powers)
    return torch.cat([sums(rows[part], highest[part]) for part in _portions(rows, COMPILED_AT_ONCE)])


def _sum_of_powers(rows: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    return (rows.float() - highest).exp().sum(-1, keepdim=True)


def _differentiate_fp32(rows: torch.Tensor, of: _Positions, has_z_loss: bool) -> None:
    """Overwrite logits with their gradient by the same operations as Megatron's, in the memory of the logits."""
    for portion in _portions(rows):
        mine, part = rows[portion], of.part(portion)
        softmax = _powers(mine, part.highest, mine).div_(part.sums)
        if has_z_loss:
            softmax.mul_(part.times)
        softmax.scatter_add_(1, part.column, part.elsewhere.float() - 1.0).mul_(part.gradient)


def _differentiate_bf16(rows: torch.Tensor, of: _Positions) -> None:
    """The same; rows are scaled and rounded in one operation. The label's value, a difference, is computed apart."""
    buffer = _buffer(rows)
    for portion in _portions(rows):
        mine, part = rows[portion], of.part(portion)
        powers, factor = _powers(mine, part.highest, buffer), part.gradient / part.sums
        one = part.sums.masked_fill(part.elsewhere, 0.0)
        at_label = (powers.gather(1, part.column) * part.times - one) * factor
        torch.mul(powers, factor * part.times, out=mine)
        mine.scatter_(1, part.column, at_label.to(mine.dtype))


def _differentiate_compiled(rows: torch.Tensor, of: _Positions) -> None:
    """The same, in one pass over the logits."""
    for portion in _portions(rows, COMPILED_AT_ONCE):
        fusion.compiled(_to_gradient)(rows[portion], *of.part(portion))


def _to_gradient(
    rows: torch.Tensor,
    highest: torch.Tensor,
    sums: torch.Tensor,
    times: torch.Tensor,
    column: torch.Tensor,
    elsewhere: torch.Tensor,
    gradient: torch.Tensor,
) -> None:
    softmax = (rows.float() - highest).exp() / sums
    is_label = torch.arange(rows.shape[1], device=rows.device) == torch.where(elsewhere, -1, column)
    rows.copy_((softmax * times - is_label.float()) * gradient)


def _powers(rows: torch.Tensor, highest: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return exp(logits - highest logit of the position), fp32, in the first rows of ``out``."""
    return torch.sub(rows, highest, out=out[: len(rows)]).exp_()


def _buffer(rows: torch.Tensor) -> torch.Tensor:
    """Return an fp32 buffer that all portions use in turn. On a GPU, conversion to and from bf16 is then part of the
    operation and not a pass of its own."""
    return torch.empty(min(len(rows), _portion_size(rows)), rows.shape[1], dtype=torch.float32, device=rows.device)


def _portions(rows: torch.Tensor, at_once: int | None = None) -> Iterator[slice]:
    size = _portion_size(rows, at_once)
    for first in range(0, len(rows), size):
        yield slice(first, first + size)


def _portion_size(rows: torch.Tensor, at_once: int | None = None) -> int:
    """Return the number of positions that have ``at_once`` (default: ``LOGITS_AT_ONCE``) bytes of logits in fp32."""
    return max(1, (at_once or LOGITS_AT_ONCE[devices.on_gpu()]) // (4 * rows.shape[-1]))
