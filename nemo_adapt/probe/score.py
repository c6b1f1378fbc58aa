"""Bits per byte of a Megatron model on its ranks, by the protocol of ``evaluate.bits_per_byte``.

The windows are those of that protocol; here they are scored by this layout's model, the data-parallel ranks taking
turns. Losses are float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.pipeline_parallel import get_forward_backward_func
from numpy.typing import NDArray

from nemo_adapt import devices
from nemo_adapt.evaluate.bits_per_byte import IGNORED, batches, padded


@torch.no_grad()
def nats(model: Any, sequences: Sequence[NDArray[np.int64]], window: int, batch: int, vocab: int) -> float:
    """Sum of the nats of all scored tokens of ``sequences``, the same on every rank.

    ``model`` is this rank's part, bare or wrapped. ``vocab`` bounds the logits of one pass.
    """
    device = devices.best_device()
    sum_of_nats = torch.zeros(1, dtype=torch.float64, device=device)
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    multiple = parallel_state.get_tensor_model_parallel_world_size()  # sequence parallelism cuts evenly
    training = model.training
    model.eval()
    for number, group in enumerate(batches(sequences, window, batch, vocab)):
        if number % dp_size == dp_rank:
            inputs, targets = (tensor.to(device) for tensor in padded(sequences, group, multiple))
            sum_of_nats += _pass(model, inputs, targets)
    model.train(training)
    dist.all_reduce(sum_of_nats, group=parallel_state.get_data_parallel_group())
    if parallel_state.get_pipeline_model_parallel_world_size() > 1:
        dist.all_reduce(sum_of_nats, group=parallel_state.get_pipeline_model_parallel_group())
    return float(sum_of_nats)


def _pass(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Nats of the targets that count; zero before the last pipeline stage."""
    counted = targets != IGNORED
    positions = torch.arange(inputs.shape[1], device=inputs.device).expand_as(inputs)

    def forward(data: Any, model: Any) -> tuple[torch.Tensor, Any]:
        losses = model(inputs, positions, None, labels=targets.where(counted, 0))

        def counted_sum(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # Megatron divides the first value in place: the sum must be of its own.
            return losses.mean(), losses.float().masked_fill(~counted, 0.0).double().sum()

        return losses, counted_sum

    found = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=None,
        model=model,
        num_microbatches=1,
        seq_length=inputs.shape[1],
        micro_batch_size=inputs.shape[0],
        forward_only=True,
    )
    return found[0] if found else torch.zeros((), dtype=torch.float64, device=inputs.device)
