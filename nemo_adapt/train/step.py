"""One optimizer step over Megatron's schedules (micro batches, pipeline stages)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func

from nemo_adapt.train.batches import Batch
from nemo_adapt.train.setup import Trainer


@dataclass(frozen=True)
class StepResult:
    """Sums over the global batch, the same on every rank."""

    nats: float
    tokens: float
    bytes: float
    grad_norm: float
    parts: torch.Tensor
    """[micro batches, 3]: nats, tokens and bytes of this rank's; no rows before the last pipeline stage."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradients are numbers."""
        return math.isfinite(self.nats) and math.isfinite(self.grad_norm)


def train_step(trainer: Trainer, micro_batches: Sequence[Batch], token_bytes: torch.Tensor) -> StepResult:
    """Forward and backward over all micro batches, then one update, unless the loss is no number.

    ``token_bytes`` [vocab]: UTF-8 bytes of each id.
    """
    for wrapped in trainer.wrapped:
        wrapped.zero_grad_buffer()
    trainer.optimizer.zero_grad()
    parts = forward_backward(trainer.wrapped, micro_batches, token_bytes, forward_only=False)
    nats, tokens, size = _share(parts.sum(0))
    grad_norm = trainer.update() if math.isfinite(nats) else math.nan
    return StepResult(nats, tokens, size, grad_norm, parts)


def forward_backward(
    models: Sequence[Any],
    micro_batches: Sequence[Batch],
    token_bytes: torch.Tensor,
    forward_only: bool,
) -> torch.Tensor:
    """Run the micro batches through this rank's ``models``, one or several that are interleaved.

    Returns [micro batches, 3]: sums of nats, tokens and bytes; no rows before the last pipeline stage. Of sequences
    that context-parallel ranks share, ``micro_batches`` have this rank's part.
    """
    shared = parallel_state.get_context_parallel_world_size()

    def forward(data: Any, model: Any) -> tuple[torch.Tensor, Any]:
        batch = next(data)
        out = model(batch["tokens"], batch["position_ids"], batch.get("documents"), labels=batch["labels"])

        def mean_loss(out: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            losses, sizes, count = out.float(), token_bytes[batch["labels"]], batch["labels"].new_tensor(out.numel())
            if "counted" in batch:  # the mean is still over all places: it is the same however the batch is shared out
                counted = batch["counted"]
                losses, sizes, count = losses.masked_fill(~counted, 0.0), sizes * counted, counted.sum()
            sums = [losses.detach().double().sum(), count.double(), sizes.sum().double()]
            # Megatron divides the first value in place: the sums must be of their own. It takes that value for this
            # rank's part of a sum over the ranks that share the sequence.
            return losses.mean() / shared, torch.stack(sums)

        return out, mean_loss

    streams = [iter(micro_batches) for _ in models]
    single = len(models) == 1
    batch_size, seq_length = micro_batches[0]["tokens"].shape
    parts = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=streams[0] if single else streams,
        model=models[0] if single else list(models),
        num_microbatches=len(micro_batches),
        seq_length=seq_length * shared,  # Megatron's is the whole one
        micro_batch_size=batch_size,
        forward_only=forward_only,
    )
    return torch.stack(parts) if parts else torch.zeros(0, 3, dtype=torch.float64, device=token_bytes.device)


def _share(sums: torch.Tensor) -> list[float]:
    """Add the sums of data- and context-parallel ranks, and tell earlier pipeline stages, which see no loss."""
    dist.all_reduce(sums, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.all_reduce(sums, group=parallel_state.get_pipeline_model_parallel_group())
    return sums.tolist()
