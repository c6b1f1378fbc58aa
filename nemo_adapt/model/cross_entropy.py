"""Cross entropy over logits that are cut over TP, in the memory of the logits."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices
from nemo_adapt.vocab import LOGITS_AT_ONCE


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, z_loss: float = 0.0) -> torch.Tensor:
    """Nats of each place, fp32 [seq, batch], from this TP rank's ``logits`` [seq, batch, vocab / TP].

    ``z_loss`` times the squared log of the softmax's denominator (arXiv 2204.02311, section 5) is in the gradient, and
    not in the nats.

    The backward pass writes the gradient over the logits, which nobody may need any more. Numbers are those of
    Megatron's ``vocab_parallel_cross_entropy`` (megatron/core/tensor_parallel/cross_entropy.py), bit by bit; that keeps
    an fp32 softmax of all logits from the forward to the backward pass, where this computes it again, a portion at a
    time.
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
        sums, room = torch.empty_like(highest), _room(rows)
        for part in _portions(rows):
            torch.sum(_powers(rows[part], highest[part], room), -1, keepdim=True, out=sums[part])
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
            for part in _portions(rows):  # operation by operation as Megatron, in the room of the logits
                softmax = _powers(rows[part], highest[part], rows[part]).div_(sums[part])
                if ctx.z_loss:
                    softmax.mul_(times[part])
                softmax.scatter_add_(1, column[part], -one[part]).mul_(gradient[part])
            return logits, None, None
        # All that a row is multiplied by at once, as it is rounded; the label's number apart, for it is a difference.
        factor, one, room = gradient / sums, sums.masked_fill(elsewhere, 0.0), _room(rows)
        for part in _portions(rows):
            powers = _powers(rows[part], highest[part], room)
            at_label = (powers.gather(1, column[part]) * times[part] - one[part]) * factor[part]
            torch.mul(powers, factor[part] * times[part], out=rows[part])
            rows[part].scatter_(1, column[part], at_label.to(rows.dtype))
        return logits, None, None


def _powers(rows: torch.Tensor, highest: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """e to the logits less the highest of their place, fp32, in the first rows of ``out``."""
    return torch.sub(rows, highest, out=out[: len(rows)]).exp_()


def _room(rows: torch.Tensor) -> torch.Tensor:
    """For each portion in its turn, in fp32: to widen bf16 logits into it, or to round its numbers into them, is a part
    of the operation on a GPU, and no pass of its own."""
    return torch.empty(min(len(rows), _places(rows)), rows.shape[1], dtype=torch.float32, device=rows.device)


def _portions(rows: torch.Tensor) -> Iterator[slice]:
    for first in range(0, len(rows), _places(rows)):
        yield slice(first, first + _places(rows))


def _places(rows: torch.Tensor) -> int:
    """Of a portion: as many as have ``LOGITS_AT_ONCE`` in fp32."""
    return max(1, LOGITS_AT_ONCE[devices.on_gpu()] // (4 * rows.shape[-1]))
