"""The loop over phases and steps. Its caller does the work between steps (metrics, checkpoints, scores)."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from megatron.core import parallel_state

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.config.phases import ends, total
from nemo_adapt.train.batches import Batch, BatchLayout, Boundaries, NoSamples, batches, read_ahead
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.setup import Trainer, build_trainer
from nemo_adapt.train.step import StepResult, train_step


@dataclass(frozen=True)
class TrainingData:
    """The data of a training, and how ranks divide it."""

    samples: Any
    """Indexed by sample number; each sample has ``tokens`` and ``labels``, both [seq]."""
    layout: BatchLayout
    token_bytes: torch.Tensor
    """[vocab]: bytes of text per token id."""
    boundaries: Boundaries = field(default_factory=Boundaries)


@dataclass(frozen=True)
class CompletedStep:
    """A completed step."""

    step: int
    """Steps completed so far, over all phases."""
    phase: int
    """Number of its phase, counted from 1."""
    ends_phase: bool
    trainer: Trainer
    """Valid until the next step is requested. Within a phase, call its ``gather`` before reading weights."""
    result: StepResult
    lr: float


def run(
    chunks: list[Any],
    plan: Sequence[PhaseConfig],
    train: TrainConfig,
    new: RowRange,
    data: TrainingData,
    done: int = 0,
    restore: Callable[[Trainer], None] | None = None,
) -> Generator[CompletedStep, None, None]:
    """Train the model of ``chunks`` through the phases of ``plan``, after ``done`` completed steps; yield each step.

    A phase starts with a fresh optimizer and schedule, and continues the data where the previous phase stopped. If
    ``done`` lies inside a phase, ``restore`` loads that phase's saved state into its trainer. ``new``: see
    ``build_trainer``. The caller must close the iterator if it stops before the end.
    """
    samples = data.samples if _needs_samples(data.boundaries) else NoSamples(train.seq_length)
    read = partial(batches, samples, data.layout, boundaries=data.boundaries)
    with closing(read_ahead(read, range(done, total(plan)))) as steps:
        for number, (phase, end) in enumerate(zip(plan, ends(plan), strict=True), start=1):
            if done >= end:
                continue
            trainer = build_trainer(chunks, train, phase, new)
            try:
                if restore and done > end - phase.steps:
                    restore(trainer)
                for made in range(done + 1, end + 1):
                    yield _one_step(trainer, next(steps), data.token_bytes, made, number, made == end)
                done = end
            finally:
                trainer.release()


def _needs_samples(boundaries: Boundaries) -> bool:
    """Return whether this rank's pipeline stages look at samples: the first embeds tokens and the last compares with
    labels; those between ask only where documents end, if that changes positions or attention."""
    last = parallel_state.get_pipeline_model_parallel_world_size() - 1
    is_between = 0 < parallel_state.get_pipeline_model_parallel_rank() < last
    return not is_between or boundaries.reset_positions or boundaries.reset_attention


def _one_step(
    trainer: Trainer, micro_batches: list[Batch], token_bytes: torch.Tensor, step: int, phase: int, ends_phase: bool
) -> CompletedStep:
    result = train_step(trainer, [batch.to(token_bytes.device) for batch in micro_batches], token_bytes)
    if ends_phase:
        trainer.gather()
    return CompletedStep(step, phase, ends_phase, trainer, result, trainer.scheduler.get_lr({}))
