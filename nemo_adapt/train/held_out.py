"""Bits per byte of held-out text, computed on the ranks during training by the protocol of ``evaluate.bits_per_byte``.

The windows are the same; the model of this layout scores them, its data-parallel ranks taking batches in turn. Losses
are float32.
"""

import math
from collections.abc import Callable, Sequence
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
from nemo_adapt.train.batches import Batch
from nemo_adapt.train.schedule import run_schedule, sum_over_ranks


@dataclass(frozen=True)
class HeldOut:
    """A held-out text, tokenized."""

    sequences: list[NDArray[np.int64]]
    bytes: int
    window: int
    batch: int
    vocab: int
    """Vocabulary size, which limits the batch so that the logits of one pass stay bounded."""

    @classmethod
    def of(cls, config: Config, text: Path, tokenizer: Path, most: int) -> "HeldOut":
        """Load the documents of ``text`` up to ``most`` bytes (0: all), with the window size of the evaluation."""
        loaded = hf_tokenizer.load(tokenizer)
        texts = read_text(text, most, config.data.text_field)
        size = sum(len(document.encode("utf-8")) for document in texts)
        window = config.evaluate.context or config.train.seq_length
        return cls(scored_sequences(loaded, texts), size, window, config.evaluate.batch, len(loaded))

    def bits_per_byte(self, chunks: Sequence[Any], check: Callable[[], None] = lambda: None) -> float | None:
        """Score the model that this rank holds a part of; ``None`` if the result is not finite. A collective.

        ``check``: see ``nats``.
        """
        found = nats(chunks, self.sequences, self.window, self.batch, self.vocab, check)
        return found / math.log(2) / self.bytes if math.isfinite(found) else None


@torch.no_grad()
@devices.varying_shapes()
def nats(
    chunks: Sequence[Any],
    sequences: Sequence[NDArray[np.int64]],
    window: int,
    batch: int,
    vocab: int,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Return the sum of nats over all scored tokens of ``sequences``, the same on every rank. A collective.

    ``chunks`` are this rank's part of the model, with or without Megatron's wrappers. ``window`` is in tokens,
    ``batch`` in windows; ``vocab`` lowers the batch so that the logits of one pass stay bounded. ``check`` is called
    before each pass, on all ranks alike; what it raises ends the scoring.
    """
    device = devices.best_device()
    sum_of_nats = torch.zeros(1, dtype=torch.float64, device=device)
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    shared = parallel_state.get_context_parallel_world_size()
    multiple = parallel_state.get_tensor_model_parallel_world_size()  # sequence parallelism needs equal parts
    multiple *= 2 * shared if shared > 1 else 1  # as does context parallelism, two for each rank
    for chunk in chunks:
        chunk.eval()
    for number, group in enumerate(batches(sequences, window, batch, vocab)):
        if number % dp_size == 0:
            check()
        if number % dp_size == dp_rank:
            inputs, targets = padded(sequences, group, multiple)
            positions = torch.arange(inputs.shape[1]).clamp(max=window - 1)[None]  # longer only by padding
            counted = targets != IGNORED
            whole = Batch(inputs, targets.where(counted, 0), positions, counted=counted)
            sum_of_nats += _pass(chunks, whole.own_part().to(device))
    for chunk in chunks:
        chunk.train()
    return float(sum_over_ranks(sum_of_nats))


def _pass(chunks: Sequence[Any], batch: Batch) -> torch.Tensor:
    """Return the sum of nats of this rank's counted labels; zero before the last pipeline stage."""

    def forward(batch: Batch, model: Any) -> tuple[torch.Tensor, Any]:
        losses = model(batch.tokens, batch.positions, None, labels=batch.labels)

        def counted_sum(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            assert batch.counted is not None
            # Megatron divides the first value in place: the sum must be a separate tensor.
            return losses.mean(), losses.float().masked_fill(~batch.counted, 0.0).double().sum()

        return losses, counted_sum

    # Interleaved schedules need at least as many micro batches as stages: repeat this one, and count it once.
    passes = 1 if len(chunks) == 1 else parallel_state.get_pipeline_model_parallel_world_size()
    found = run_schedule(chunks, [batch] * passes, batch.tokens.shape, forward, forward_only=True)
    return found[0] if found else torch.zeros((), dtype=torch.float64, device=batch.tokens.device)
