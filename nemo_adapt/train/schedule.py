"""Running micro batches through Megatron's pipeline schedules, for training and scoring, and summing over ranks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func

from nemo_adapt.train.batches import Batch

Loss = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Maps a model's output to the value to differentiate, which Megatron divides in place, and the values to report."""


def run_schedule(
    models: Sequence[Any],
    micro_batches: Sequence[Batch],
    shape: torch.Size,
    forward: Callable[[Batch, Any], tuple[torch.Tensor, Loss]],
    forward_only: bool = False,
) -> list[torch.Tensor]:
    """Run the micro batches, each of ``shape`` [batch, seq], through ``models``, this rank's (several if interleaved).

    ``forward(micro batch, model)`` returns the output and its loss function. Under context parallelism
    ``micro_batches`` and ``shape`` are those of this rank's part. Returns what each micro batch reports; empty before
    the last pipeline stage.
    """
    streams = [iter(micro_batches) for _ in models]
    single = len(models) == 1
    batch_size, seq_length = shape
    return get_forward_backward_func()(
        forward_step_func=lambda stream, model: forward(next(stream), model),
        data_iterator=streams[0] if single else streams,
        model=models[0] if single else list(models),
        num_microbatches=len(micro_batches),
        seq_length=seq_length * parallel_state.get_context_parallel_world_size(),  # Megatron expects the whole length
        micro_batch_size=batch_size,
        forward_only=forward_only,
    )


def sum_over_ranks(sums: torch.Tensor) -> torch.Tensor:
    """Sum ``sums`` in place over data- and context-parallel ranks, and return it on all pipeline stages.

    Earlier pipeline stages compute no loss: theirs must be zeros.
    """
    dist.all_reduce(sums, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.all_reduce(sums, group=parallel_state.get_pipeline_model_parallel_group())
    return sums
