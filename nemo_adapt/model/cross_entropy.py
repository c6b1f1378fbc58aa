"""Cross entropy over logits that are cut over TP, in the memory of the logits."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state

from nemo_adapt import devices
from nemo_adapt.vocab import LOGITS_AT_ONCE


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Nats of each place, fp32 [seq, batch], from this TP rank's ``logits`` [seq, batch, vocab / TP].

    The backward pass writes the gradient over the logits, which nobody may need any more. Numbers are those of
    Megatron's ``vocab_parallel_cross_entropy`` (megatron/core/tensor_parallel/cross_entropy.py), bit by bit; that keeps
    an fp32 softmax of all logits from the forward to the backward pass, where this computes it again, a portion at a
    time.
    """
    losses: torch.Tensor = _CrossEntropy.apply(logits, labels)
    return losses


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
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
        return (sums.log() - predicted).view(labels.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, highest, sums, column, elsewhere = ctx.saved_tensors
        rows, gradient = logits.view(-1, logits.shape[-1]), gradients[0].reshape(-1)
        for part in _portions(rows):
            of_one = _gradient(rows[part], highest[part], sums[part], column[part], elsewhere[part])
            rows[part] = of_one.mul_(gradient[part].unsqueeze(-1))
            del of_one  # before the next is made
        return logits, None


def _powers(rows: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """e to the logits less the highest of their place, fp32."""
    wide = rows.float()  # in fp32 the logits themselves, which stay
    shifted = wide - highest.unsqueeze(-1) if wide is rows else wide.sub_(highest.unsqueeze(-1))
    return shifted.exp_()


def _gradient(
    rows: torch.Tensor, highest: torch.Tensor, sums: torch.Tensor, column: torch.Tensor, elsewhere: torch.Tensor
) -> torch.Tensor:
    """The softmax, less one at the label where this rank has it."""
    softmax = _powers(rows, highest).div_(sums.unsqueeze(-1))
    return softmax.scatter_add_(1, column.unsqueeze(-1), elsewhere.unsqueeze(-1).float() - 1.0)


def _portions(rows: torch.Tensor) -> Iterator[slice]:
    """Of places: as many as have ``LOGITS_AT_ONCE`` in fp32."""
    count = max(1, LOGITS_AT_ONCE[devices.on_gpu()] // (4 * rows.shape[-1]))
    for first in range(0, len(rows), count):
        yield slice(first, first + count)
