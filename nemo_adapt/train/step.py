"""One optimizer step over Megatron's schedules (micro batches, pipeline stages)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state

from nemo_adapt.train.batches import Batch
from nemo_adapt.train.schedule import run_schedule, sum_over_ranks
from nemo_adapt.train.setup import Trainer


@dataclass(frozen=True)
class StepResult:
    """Sums over the global batch, the same on every rank."""

    nats: float
    labels: float
    """Number of labels that count in the loss."""
    bytes: float
    """UTF-8 bytes of these labels."""
    grad_norm: float
    parts: torch.Tensor
    """[micro batches, 3]: nats, labels and bytes of each of this rank's; no rows before the last pipeline stage."""

    @property
    def is_finite(self) -> bool:
        """Whether the loss and the gradient norm are finite."""
        return math.isfinite(self.nats) and math.isfinite(self.grad_norm)


def train_step(trainer: Trainer, micro_batches: Sequence[Batch], token_bytes: torch.Tensor) -> StepResult:
    """Run forward and backward over all micro batches, then one update, unless the loss is not finite.

    ``token_bytes`` [vocab]: UTF-8 bytes of each id.
    """
    for wrapped in trainer.wrapped:
        wrapped.zero_grad_buffer()
    trainer.optimizer.zero_grad()
    parts = forward_backward(trainer.wrapped, micro_batches, token_bytes)
    nats, labels, size = sum_over_ranks(parts.sum(0)).tolist()
    grad_norm = trainer.update() if math.isfinite(nats) else math.nan
    return StepResult(nats, labels, size, grad_norm, parts)


def forward_backward(models: Sequence[Any], micro_batches: Sequence[Batch], token_bytes: torch.Tensor) -> torch.Tensor:
    """Compute the gradients of the mean loss of this rank's ``micro_batches`` in its ``models`` (see ``run_schedule``).

    Returns [micro batches, 3]: sums of nats, labels and bytes; no rows before the last pipeline stage.
    """
    shared = parallel_state.get_context_parallel_world_size()

    def forward(batch: Batch, model: Any) -> tuple[torch.Tensor, Any]:
        out = model(batch.tokens, batch.positions, batch.documents, labels=batch.labels)

        def mean_loss(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            losses, sizes = out.float(), token_bytes[batch.labels]
            count = torch.full((), out.numel(), device=out.device)  # filled there: copying from the host would wait
            counted = batch.counted
            if counted is not None:  # still a mean over all positions: the same for any split of the batch
                losses, sizes, count = losses.masked_fill(~counted, 0.0), sizes * counted, counted.sum()
            sums = [losses.detach().double().sum(), count.double(), sizes.sum().double()]
            # Megatron treats the first value as this rank's part of a sum over context-parallel ranks, and divides it
            # in place: the sums must be separate tensors.
            return losses.mean() / shared, torch.stack(sums)

        return out, mean_loss

    parts = run_schedule(models, micro_batches, micro_batches[0].tokens.shape, forward)
    return torch.stack(parts) if parts else torch.zeros(0, 3, dtype=torch.float64, device=token_bytes.device)
