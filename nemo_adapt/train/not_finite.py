"""A loss or gradient that is not finite: find out the step, the samples and the parameters."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.collectives import all_gather, first_rank_does
from nemo_adapt.errors import UserError
from nemo_adapt.train.batches import BatchLayout
from nemo_adapt.train.loop import CompletedStep
from nemo_adapt.train.names import named_parameters

SHOWN = 3


def explain(
    done: CompletedStep, layout: BatchLayout, checkpoints: Path, write: Callable[[Sequence[int]], str]
) -> UserError:
    """Return the error that ends the training, whose checkpoints are in a folder. ``write`` writes the text of samples,
    given by number, and returns where it is. A collective."""
    found = all_gather((_samples(done, layout), sorted(_weights(done)), sorted(_gradients(done))))
    samples, weights, gradients = (_joined(rank[part] for rank in found) for part in range(3))
    samples = samples or list(range((done.step - 1) * layout.global_batch, done.step * layout.global_batch))
    what = "loss" if not math.isfinite(done.result.nats) else "gradient norm"
    value = done.result.nats if what == "loss" else done.result.grad_norm
    details = [
        f"{name} {_few(values)}"
        for name, values in (("samples", samples), ("parameters", weights), ("gradients of", gradients))
        if values
    ]
    where = f": {'; '.join(details)}" if details else ""
    saved = [place.name for place in first_rank_does(complete, checkpoints)]
    before = f"The last checkpoint, {saved[-1]}, is from before it. " if saved else ""
    return UserError(
        f"train: the {what} of step {done.step} is {value}{where}. {before}Lower the learning rate, or look at the "
        f"data of that step ({write(samples)})"
    )


def _samples(done: CompletedStep, layout: BatchLayout) -> list[int]:
    """Return the sample numbers (in the blend) of this rank's micro batches whose loss is not finite."""
    numbers = layout.samples(done.step - 1)
    wrong = (~torch.isfinite(done.result.parts[:, 0])).nonzero().flatten().tolist()
    return [number for micro_batch in wrong for number in numbers[micro_batch]]


def _parameters(done: CompletedStep) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return chain.from_iterable(map(named_parameters, done.trainer.chunks))


def _weights(done: CompletedStep) -> Iterator[str]:
    for name, parameter in _parameters(done):
        if not torch.isfinite(parameter).all():
            yield name


def _gradients(done: CompletedStep) -> Iterator[str]:
    for name, parameter in _parameters(done):
        gradient = getattr(parameter, "main_grad", None)
        if gradient is not None and not torch.isfinite(gradient).all():
            yield name


def _joined(parts: Any) -> list[Any]:
    return sorted({value for part in parts for value in part})


def _few(values: list[Any]) -> str:
    """Format a list: the ends of a range, or the first few values."""
    numbered = len(values) > SHOWN and isinstance(values[0], int)
    if numbered and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]} to {values[-1]}"
    shown = ", ".join(map(str, values[:SHOWN]))
    return shown if len(values) <= SHOWN else f"{shown} and {len(values) - SHOWN} more"
