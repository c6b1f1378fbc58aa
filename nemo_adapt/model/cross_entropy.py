"""Cross entropy over logits sharded over TP, in the memory of the logits."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices
from nemo_adapt.vocab import LOGITS_AT_ONCE


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, z_loss: float = 0.0) -> torch.Tensor:
    """Return the nats of each position, fp32 [seq, batch], from this TP rank's ``logits`` [seq, batch, vocab / TP].

    ``labels`` [seq, batch]. ``z_loss`` times the squared log of the softmax denominator (arXiv 2204.02311, section 5)
    is in the gradient, but not in the nats.

    The backward pass overwrites the logits with their gradient, so nothing else may need them by then. Nats, and
    gradients of fp32 logits, are bit-identical to those of Megatron's ``vocab_parallel_cross_entropy``
    (megatron/core/tensor_parallel/cross_entropy.py), which keeps an fp32 softmax of all logits until the backward pass;
    this recomputes it, a portion at a time. Gradients of bf16 logits are rounded once, from fp32.
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
        sums, buffer = torch.empty_like(highest), _buffer(rows)
        for part in _portions(rows):
            torch.sum(_powers(rows[part], highest[part], buffer), -1, keepdim=True, out=sums[part])
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
        if rows.dtype == torch.float32:
            one = 1.0 - elsewhere.float()
            for part in _portions(rows):  # the same operations as Megatron's, in the memory of the logits
                softmax = _powers(rows[part], highest[part], rows[part]).div_(sums[part])
                if ctx.z_loss:
                    softmax.mul_(times[part])
                softmax.scatter_add_(1, column[part], -one[part]).mul_(gradient[part])
            return logits, None, None
        # Rows are scaled and rounded in one operation; the label's value, a difference, is computed separately.
        factor, one, buffer = gradient / sums, sums.masked_fill(elsewhere, 0.0), _buffer(rows)
        for part in _portions(rows):
            powers = _powers(rows[part], highest[part], buffer)
            at_label = (powers.gather(1, column[part]) * times[part] - one[part]) * factor[part]
            torch.mul(powers, factor[part] * times[part], out=rows[part])
            rows[part].scatter_(1, column[part], at_label.to(rows.dtype))
        return logits, None, None


def _powers(rows: torch.Tensor, highest: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return exp(logits - highest logit of the position), fp32, in the first rows of ``out``."""
    return torch.sub(rows, highest, out=out[: len(rows)]).exp_()


def _buffer(rows: torch.Tensor) -> torch.Tensor:
    """Return an fp32 buffer that all portions use in turn. On a GPU, conversion to and from bf16 is then part of the
    operation and not a pass of its own."""
    return torch.empty(min(len(rows), _portion_size(rows)), rows.shape[1], dtype=torch.float32, device=rows.device)


def _portions(rows: torch.Tensor) -> Iterator[slice]:
    for first in range(0, len(rows), _portion_size(rows)):
        yield slice(first, first + _portion_size(rows))


def _portion_size(rows: torch.Tensor) -> int:
    """Return the number of positions in a portion: as many as have ``LOGITS_AT_ONCE`` bytes of logits in fp32."""
    return max(1, LOGITS_AT_ONCE[devices.on_gpu()] // (4 * rows.shape[-1]))
