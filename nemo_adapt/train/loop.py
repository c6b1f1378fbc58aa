"""The loop over phases and steps. What is done between steps (metrics, checkpoints, scores) is its caller's."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.phases import ends, total
from nemo_adapt.train.batches import BatchLayout, Boundaries, batches, on_device, read_ahead
from nemo_adapt.train.new_rows import Span
from nemo_adapt.train.setup import Trainer, build_trainer
from nemo_adapt.train.step import StepResult, train_step


@dataclass(frozen=True)
class Data:
    """What a training reads, and how its ranks share it."""

    samples: Any
    """By number: ``tokens`` and ``labels``, each [seq]."""
    layout: BatchLayout
    token_bytes: torch.Tensor
    """[vocab]: bytes of text that each id stands for."""
    boundaries: Boundaries = field(default_factory=Boundaries)


@dataclass(frozen=True)
class Stepped:
    """One step that has been made."""

    step: int
    """Steps made so far, over all phases."""
    phase: int
    """Number of its phase, from 1."""
    ends_phase: bool
    trainer: Trainer
    """Good until the next step is asked for. Within a phase weights are read after its ``gather``."""
    result: StepResult
    lr: float


def run(
    chunks: list[Any],
    plan: Sequence[PhaseConfig],
    train: TrainConfig,
    new: Span,
    data: Data,
    done: int = 0,
    restore: Callable[[Trainer], None] | None = None,
) -> Generator[Stepped, None, None]:
    """Train the model of ``chunks`` through the phases of ``plan``, beginning after ``done`` steps.

    A phase begins with a fresh optimizer and schedule, and takes up the data where the phase before it stopped. Where
    ``done`` lies inside a phase, ``restore`` gives its trainer the state that it had there. ``new``: see
    ``build_trainer``. The caller closes the iterator, if it does not go on to its end.
    """
    device = data.token_bytes.device
    read = partial(batches, data.samples, data.layout, boundaries=data.boundaries)
    with closing(read_ahead(read, range(done, total(plan)))) as steps:
        for number, (phase, end) in enumerate(zip(plan, ends(plan), strict=True), start=1):
            if done >= end:
                continue
            trainer = build_trainer(chunks, train, phase, new)
            try:
                if restore and done > end - phase.steps:
                    restore(trainer)
                while done < end:
                    micro_batches = [on_device(batch, device) for batch in next(steps)]
                    result = train_step(trainer, micro_batches, data.token_bytes)
                    done += 1
                    lr = trainer.optimizer.param_groups[0]["lr"]
                    if done == end:
                        trainer.gather()
                    yield Stepped(done, number, done == end, trainer, result, lr)
            finally:
                trainer.release()
