"""Traces of training steps by torch's profiler: when each kernel and each message between ranks runs."""

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from megatron.core import parallel_state
from torch.profiler import profile, schedule

from nemo_adapt.collectives import first_rank_does
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError

T = TypeVar("T")


def check_trace(steps: Sequence[int], total: int) -> None:
    """Raise ``UserError`` if none of the ``total`` steps of a training would be recorded."""
    if steps and steps[0] > total:
        raise UserError(f"train.trace={list(steps)}: the training has only {total} steps")


def traced(training: Iterable[T], steps: Sequence[int], done: int, folder: Path) -> Generator[T, None, None]:
    """Yield what ``training`` yields, its steps from ``done`` + 1 on, and record ``steps`` (first and last; none if
    empty) in ``folder/rank_0.json.gz``, with what the caller does between them.

    On one rank of each pipeline stage, the first of its TP, CP and DP groups: others do the same work. Steps that are
    already done are not recorded.
    """
    first, last = max(steps[0], done + 1) if steps else 0, steps[-1] if steps else 0
    if first > last or not steps:
        yield from training
        return
    first_rank_does(partial(folder.mkdir, parents=True, exist_ok=True))
    others = (parallel_state.get_tensor_model_parallel_rank(), parallel_state.get_data_parallel_rank(True))
    if any(others):
        yield from training
        return

    def save(recorded: profile) -> None:
        file = folder / f"rank_{dist.get_rank()}.json.gz"
        try:
            recorded.export_chrome_trace(str(file))
        except (OSError, RuntimeError) as error:  # torch's own code opens the file
            say(f"{file} could not be written, training goes on: {error}")

    before = first - done - 1
    warm_up = min(before, 1)  # starting the profiler takes time
    plan = schedule(wait=before - warm_up, warmup=warm_up, active=last - first + 1, repeat=1)
    with profile(schedule=plan, on_trace_ready=save) as recorder:
        for made in training:
            yield made
            recorder.step()
