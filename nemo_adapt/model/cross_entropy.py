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
        column = labels.reshape(-1) - width * parallel_state.get_tensor_model_parallel_rank()
        elsewhere = (column < 0) | (column >= width)
        column = column.masked_fill(elsewhere, 0)
        highest = rows.amax(-1).float()
        dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
        sums = torch.cat([_powers(rows[part], highest[part]).sum(-1) for part in _portions(rows)])
        predicted = rows.gather(1, column.unsqueeze(-1)).squeeze(-1).float() - highest
        predicted.masked_fill_(elsewhere, 0.0)
        dist.all_reduce(predicted, group=group)
        dist.all_reduce(sums, group=group)
        ctx.save_for_backward(logits, highest, sums, column, elsewhere)
        ctx.z_loss = z_loss
        return (sums.log() - predicted).view(labels.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, highest, sums, column, elsewhere = ctx.saved_tensors
        rows, gradient = logits.view(-1, logits.shape[-1]), gradients[0].reshape(-1)
        times = 1.0 + 2.0 * ctx.z_loss * (sums.log() + highest)  # d log(Z)^2 = 2 log(Z) x softmax
        for part in _portions(rows):
            softmax = _powers(rows[part], highest[part]).div_(sums[part].unsqueeze(-1))
            if ctx.z_loss:
                softmax.mul_(times[part].unsqueeze(-1))
            of_one = _less_one(softmax, column[part], elsewhere[part])
            rows[part] = of_one.mul_(gradient[part].unsqueeze(-1))
            del softmax, of_one  # before the next is made
        return logits, None, None


def _powers(rows: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """e to the logits less the highest of their place, fp32."""
    wide = rows.float()  # in fp32 the logits themselves, which stay
    shifted = wide - highest.unsqueeze(-1) if wide is rows else wide.sub_(highest.unsqueeze(-1))
    return shifted.exp_()


def _less_one(softmax: torch.Tensor, column: torch.Tensor, elsewhere: torch.Tensor) -> torch.Tensor:
    """The softmax, less one at the label where this rank has it."""
    return softmax.scatter_add_(1, column.unsqueeze(-1), elsewhere.unsqueeze(-1).float() - 1.0)


def _portions(rows: torch.Tensor) -> Iterator[slice]:
    """Of places: as many as have ``LOGITS_AT_ONCE`` in fp32."""
    count = max(1, LOGITS_AT_ONCE[devices.on_gpu()] // (4 * rows.shape[-1]))
    for first in range(0, len(rows), count):
        yield slice(first, first + count)
