"""One optimizer step over Megatron's schedules (micro batches, pipeline stages)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func

from nemo_adapt.train.batches import Batch, BatchLayout
from nemo_adapt.train.setup import Trainer


@dataclass(frozen=True)
class StepResult:
    """Sums over the global batch, the same on every rank."""

    nats: float
    tokens: float
    bytes: float
    grad_norm: float


def train_step(
    trainer: Trainer, stream: Iterator[Batch], layout: BatchLayout, seq_length: int, token_bytes: torch.Tensor
) -> StepResult:
    """Forward and backward over all micro batches, then one update. ``token_bytes`` [vocab]: UTF-8 bytes of each id."""
    trainer.model.zero_grad_buffer()
    trainer.optimizer.zero_grad()
    parts = forward_backward(trainer.model, stream, layout, seq_length, token_bytes, forward_only=False)
    trainer.scheduler.step(1)
    _, grad_norm, _ = trainer.optimizer.step()
    nats, tokens, size = _share(parts)
    return StepResult(nats, tokens, size, float(grad_norm or 0.0))


def forward_backward(
    model: Any,
    stream: Iterator[Batch],
    layout: BatchLayout,
    seq_length: int,
    token_bytes: torch.Tensor,
    forward_only: bool,
) -> torch.Tensor:
    """Run the micro batches; returns this rank's sums of nats, tokens and bytes (zero before the last stage)."""

    def forward(data: Iterator[Batch], model: Any) -> tuple[torch.Tensor, Any]:
        batch = next(data)
        losses = model(batch["tokens"], batch["position_ids"], None, labels=batch["labels"])

        def mean_loss(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            losses = losses.float()
            size = token_bytes[batch["labels"]].sum()
            count = losses.new_tensor(losses.numel(), dtype=torch.float64)
            # Megatron divides the first value in place: the sums must be of their own.
            return losses.mean(), torch.stack([losses.detach().double().sum(), count, size.double()])

        return losses, mean_loss

    parts = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=stream,
        model=model,
        num_microbatches=layout.micro_batches,
        seq_length=seq_length,
        micro_batch_size=layout.micro_batch,
        forward_only=forward_only,
    )
    return torch.stack(parts).sum(0) if parts else torch.zeros(3, dtype=torch.float64, device=token_bytes.device)


def _share(sums: torch.Tensor) -> list[float]:
    """Add the data-parallel ranks' sums, and tell the earlier pipeline stages, which see no loss."""
    dist.all_reduce(sums, group=parallel_state.get_data_parallel_group())
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.all_reduce(sums, group=parallel_state.get_pipeline_model_parallel_group())
    return sums.tolist()
