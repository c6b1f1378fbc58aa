"""Held-out text scored on the ranks during training: bits per byte, by the protocol of ``evaluate.bits_per_byte``.

The windows are those of that protocol; here they are scored by this layout's model, the data-parallel ranks taking
turns. Losses are float32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from numpy.typing import NDArray

from nemo_adapt import devices, hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.evaluate.bits_per_byte import IGNORED, batches, padded, read_text, scored_sequences
from nemo_adapt.model.context import own_part
from nemo_adapt.train.batches import Batch
from nemo_adapt.train.schedule import run_schedule, sum_over_ranks


@dataclass(frozen=True)
class HeldOut:
    """A text that models are scored on."""

    sequences: list[NDArray[np.int64]]
    bytes: int
    window: int
    batch: int
    vocab: int
    """Bounds the logits of one pass."""

    @classmethod
    def of(cls, config: Config, text: Path, tokenizer: Path, most: int) -> "HeldOut":
        """The first ``most`` bytes of ``text`` (0: all of it), cut into the windows of the evaluation."""
        loaded = hf_tokenizer.load(tokenizer)
        texts = read_text(text, most, config.data.text_field)
        size = sum(len(document.encode("utf-8")) for document in texts)
        window = config.evaluate.context or config.train.seq_length
        return cls(scored_sequences(loaded, texts), size, window, config.evaluate.batch, len(loaded))

    def bits_per_byte(self, chunks: Sequence[Any]) -> float | None:
        """Of the model that this rank holds a part of; ``None`` where it is no number any more."""
        found = nats(chunks, self.sequences, self.window, self.batch, self.vocab)
        return found / math.log(2) / self.bytes if math.isfinite(found) else None


@torch.no_grad()
@devices.varying_shapes()
def nats(chunks: Sequence[Any], sequences: Sequence[NDArray[np.int64]], window: int, batch: int, vocab: int) -> float:
    """Sum of the nats of all scored tokens of ``sequences``, the same on every rank.

    ``chunks`` are this rank's part of the model, bare or wrapped. ``vocab`` bounds the logits of one pass.
    """
    device = devices.best_device()
    sum_of_nats = torch.zeros(1, dtype=torch.float64, device=device)
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    shared = parallel_state.get_context_parallel_world_size()
    multiple = parallel_state.get_tensor_model_parallel_world_size()  # sequence parallelism cuts evenly
    multiple *= 2 * shared if shared > 1 else 1  # and so does context parallelism, into two chunks a rank
    for chunk in chunks:
        chunk.eval()
    for number, group in enumerate(batches(sequences, window, batch, vocab)):
        if number % dp_size == dp_rank:
            inputs, targets = padded(sequences, group, multiple)
            places = torch.arange(inputs.shape[1]).clamp(max=window - 1)[None]  # padding needs no learned position
            part = own_part({"inputs": inputs, "targets": targets, "positions": places})
            sum_of_nats += _pass(chunks, {name: tensor.to(device) for name, tensor in part.items()})
    for chunk in chunks:
        chunk.train()
    return float(sum_over_ranks(sum_of_nats))


def _pass(chunks: Sequence[Any], batch: Batch) -> torch.Tensor:
    """Nats of the targets that count on this rank; zero before the last pipeline stage."""
    inputs, counted = batch["inputs"], batch["targets"] != IGNORED

    def forward(batch: Batch, model: Any) -> tuple[torch.Tensor, Any]:
        losses = model(inputs, batch["positions"], None, labels=batch["targets"].where(counted, 0))

        def counted_sum(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # Megatron divides the first value in place: the sum must be of its own.
            return losses.mean(), losses.float().masked_fill(~counted, 0.0).double().sum()

        return losses, counted_sum

    # Interleaved stages take no fewer micro batches than there are stages: all are this one, and one of them counts.
    passes = 1 if len(chunks) == 1 else parallel_state.get_pipeline_model_parallel_world_size()
    found = run_schedule(chunks, [batch] * passes, inputs.shape, forward, forward_only=True)
    return found[0] if found else torch.zeros((), dtype=torch.float64, device=inputs.device)
