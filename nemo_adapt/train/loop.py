"""The loop over phases and steps. What is done between steps (metrics, checkpoints, scores) is its caller's."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nemo_adapt.config import PhaseConfig, TrainConfig
from nemo_adapt.phases import ends
from nemo_adapt.train.batches import BatchLayout, batches
from nemo_adapt.train.setup import Trainer, build_trainer
from nemo_adapt.train.step import StepResult, train_step


@dataclass(frozen=True)
class Data:
    """What a training reads, and how its ranks share it."""

    samples: Any
    """By number: ``tokens``, ``labels`` and ``position_ids``, each [seq]."""
    layout: BatchLayout
    token_bytes: torch.Tensor
    """[vocab]: bytes of text that each id stands for."""


@dataclass(frozen=True)
class Stepped:
    """One step that has been made."""

    step: int
    """Steps made so far, over all phases."""
    phase: int
    """Number of its phase, from 1."""
    ends_phase: bool
    trainer: Trainer
    """Good until the next step is asked for."""
    result: StepResult
    lr: float


def run(
    model: Any,
    plan: Sequence[PhaseConfig],
    train: TrainConfig,
    kept: int,
    data: Data,
    done: int = 0,
    restore: Callable[[Trainer], None] | None = None,
) -> Iterator[Stepped]:
    """Train ``model`` through the phases of ``plan``, beginning after ``done`` steps.

    A phase begins with a fresh optimizer and schedule, and takes up the data where the phase before it stopped. Where
    ``done`` lies inside a phase, ``restore`` gives its trainer the state that it had there. ``kept``: see
    ``build_trainer``.
    """
    device = data.token_bytes.device
    for number, (phase, end) in enumerate(zip(plan, ends(plan), strict=True), start=1):
        if done >= end:
            continue
        trainer = build_trainer(model, train, phase, kept)
        if restore and done > end - phase.steps:
            restore(trainer)
        while done < end:
            stream = batches(data.samples, data.layout, done, device)
            result = train_step(trainer, stream, data.layout, train.seq_length, data.token_bytes)
            done += 1
            lr = trainer.optimizer.param_groups[0]["lr"]
            yield Stepped(done, number, done == end, trainer, result, lr)
        trainer.release()
