"""Bits per byte of held-out text, computed on the ranks during training by the protocol of ``evaluate.bits_per_byte``.

The windows are the same; the model of this layout scores them, each data-parallel rank an equal part. Losses are
float32.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from numpy.typing import NDArray
from torch.nn import functional

from nemo_adapt import devices, hf_tokenizer
from nemo_adapt.collectives import first_rank_does
from nemo_adapt.config import Config
from nemo_adapt.config.layout import context_length, window_size
from nemo_adapt.console.progress import say
from nemo_adapt.evaluate.bits_per_byte import IGNORED, Window, batches, padded, read_text, scored_sequences
from nemo_adapt.files import file_hash
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.train.batches import Batch
from nemo_adapt.train.schedule import run_schedule, sum_over_ranks

TEXTS = "texts"
"""Key in a training's progress: the hash of each held-out text by language."""
MICRO_BATCHES_PER_STAGE = 4
"""Micro batches of a round for each pipeline stage: with 4, stages wait for less than a fifth of the time."""


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
    def of(cls, config: Config, text: Path, tokenizer: Path, most: int, model: Path) -> "HeldOut":
        """Load the documents of ``text`` up to ``most`` bytes (0: all), with the window size of the evaluation for the
        base ``model``."""
        loaded = hf_tokenizer.load(tokenizer)
        texts = read_text(text, most, config.data.text_field)
        size = sum(len(document.encode("utf-8")) for document in texts)
        window = window_of(config, model)
        return cls(scored_sequences(loaded, texts), size, window, config.evaluate.batch, len(loaded))

    def bits_per_byte(self, chunks: Sequence[Any], check: Callable[[], None] = lambda: None) -> float | None:
        """Score the model that this rank holds a part of; ``None`` if the result is not finite. A collective.

        ``check``: see ``nats``.
        """
        found = nats(chunks, self.sequences, self.window, self.batch, self.vocab, check)
        return found / math.log(2) / self.bytes if math.isfinite(found) else None


def window_of(config: Config, model: Path) -> int:
    """Return the tokens per window of held-out text for the base ``model``, as in the report."""
    limit = context_length(read_shape(model)[1])
    return window_size(config.evaluate.context, config.train.seq_length, [limit])


def note_texts(progress: dict[str, Any], texts: Mapping[str, Path]) -> None:
    """Keep the hash of each held-out text in a training's ``progress``, and say which are others than those that it has
    scored so far: their curve would be of two texts. A collective."""
    hashes = first_rank_does(lambda: {name: file_hash(path) for name, path in texts.items()})
    before = progress.get(TEXTS, {})
    others = [f"evaluate.texts.{name}" for name in hashes if before.get(name, hashes[name]) != hashes[name]]
    if others and dist.get_rank() == 0:
        say(f"{', '.join(others)}: another text than until step {progress['step']}: held_out.jsonl has scores of both")
    progress[TEXTS] = {**before, **hashes}


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
    before each round of passes, on all ranks alike; what it raises ends the scoring.
    """
    sum_of_nats = torch.zeros(1, dtype=torch.float64, device=devices.best_device())
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    pp_size = parallel_state.get_pipeline_model_parallel_world_size()
    most = MICRO_BATCHES_PER_STAGE * pp_size if pp_size > 1 else 1
    for chunk in chunks:
        chunk.eval()
    for group in batches(sequences, window, batch, vocab, dp_size * most):
        check()
        own = group[dp_rank::dp_size]  # sorted by length: each rank has long and short ones
        if own:
            sum_of_nats += _score(chunks, _micro_batches(sequences, own, window, most, len(chunks) > 1))
    for chunk in chunks:
        chunk.train()
    return float(sum_over_ranks(sum_of_nats))


def _micro_batches(
    sequences: Sequence[NDArray[np.int64]], group: Sequence[Window], window: int, most: int, interleaved: bool
) -> list[Batch]:
    """Return this rank's part of the windows, in up to ``most`` micro batches, all of one shape as a pipeline wants."""
    shared = parallel_state.get_context_parallel_world_size()
    multiple = parallel_state.get_tensor_model_parallel_world_size()  # sequence parallelism needs equal parts
    multiple *= 2 * shared if shared > 1 else 1  # as does context parallelism, two for each rank
    rows = math.ceil(len(group) / most)
    count = math.ceil(len(group) / rows)
    if interleaved:  # such schedules need a multiple of the number of stages
        pp_size = parallel_state.get_pipeline_model_parallel_world_size()
        count = -(-count // pp_size) * pp_size
    inputs, targets = padded(sequences, group, multiple)
    missing = (0, 0, 0, rows * count - len(group))
    inputs, targets = functional.pad(inputs, missing), functional.pad(targets, missing, value=IGNORED)
    positions = torch.arange(inputs.shape[1]).clamp(max=window - 1)[None]  # longer only by padding
    device = devices.best_device()
    return [
        Batch(tokens, labels.where(labels != IGNORED, 0), positions, counted=labels != IGNORED).own_part().to(device)
        for tokens, labels in zip(inputs.split(rows), targets.split(rows), strict=True)
    ]


def _score(chunks: Sequence[Any], micro_batches: Sequence[Batch]) -> torch.Tensor:
    """Return the sum of nats of this rank's counted labels; zero before the last pipeline stage."""

    def forward(batch: Batch, model: Any) -> tuple[torch.Tensor, Any]:
        losses = model(batch.tokens, batch.positions, None, labels=batch.labels)

        def counted_sum(losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            assert batch.counted is not None
            # Megatron divides the first value in place: the sum must be a separate tensor.
            return losses.mean(), losses.float().masked_fill(~batch.counted, 0.0).double().sum()

        return losses, counted_sum

    tokens = micro_batches[0].tokens
    found = run_schedule(chunks, micro_batches, tokens.shape, forward, forward_only=True)
    return torch.stack(found).sum() if found else torch.zeros((), dtype=torch.float64, device=tokens.device)
