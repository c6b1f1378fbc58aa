"""Run the cells of a study, each as a separate run in its own processes."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from nemo_adapt import pipeline
from nemo_adapt.config import Config
from nemo_adapt.console.progress import Bar, say
from nemo_adapt.errors import ERROR
from nemo_adapt.files import write_json
from nemo_adapt.machine import gpus, ranks
from nemo_adapt.machine.starts import is_earlier, this_start
from nemo_adapt.run.inputs import input_hash
from nemo_adapt.study.cells import Cell
from nemo_adapt.study.start import context, start

DONE, FAILED, LOG = "done.json", "failed.json", "log.txt"
CELLS = "cells"
"""The folder of the cells' runs in the study's folder."""
LOOK_SECONDS = 0.2
"""Seconds between polls of the running processes."""
STOPPED = (ranks.MORE_TO_DO, *(-number for number in ranks.STOP_SIGNALS))
"""Exit codes of a run that ended because it was asked to stop."""


@dataclass(frozen=True)
class Job:
    """A cell and the command that runs it."""

    cell: Cell
    folder: Path
    command: list[str]
    """Arguments of ``nemo-adapt``."""
    composed: Callable[[], Config]
    """Composes the configuration that its run would have now."""
    ranks: int = 1
    """Ranks of its training."""
    frozen: tuple[str, ...] = ()
    """Arguments to use instead in a launched study, whose cells keep the configuration they had at launch."""

    @cached_property
    def config(self) -> Config:
        """The configuration that its run would have now."""
        return self.composed()

    @property
    def has_ended(self) -> bool:
        """Whether its run has finished successfully, even if its inputs have changed since."""
        return (self.folder / DONE).is_file()

    @property
    def why(self) -> str:
        """The error of its last attempt; empty if that did not fail."""
        return str(failure(self.folder).get("why", ""))

    @property
    def has_failed_here(self) -> bool:
        """Whether it failed in an earlier start of this Slurm job, which was requeued since."""
        return is_earlier(failure(self.folder), this_start())


@dataclass
class Workers:
    """The running processes of a study."""

    server: ForkServerContext
    gpu_count: int
    running: list[tuple[Job, ForkServerProcess, int]] = field(default_factory=list)
    """Each with its slot: the lowest number that was free when it started; it selects the run's GPUs."""
    stopping: bool = False

    def start(self, job: Job) -> None:
        """Start a cell, with its output in its log."""
        job.folder.mkdir(parents=True, exist_ok=True)
        for mark in (DONE, FAILED):
            (job.folder / mark).unlink(missing_ok=True)
        slot = min(set(range(len(self.running) + 1)) - {slot for _, _, slot in self.running})
        seen = gpus.of_run(slot, job.ranks, self.gpu_count)
        process = start(self.server, job.frozen or job.command, job.folder / LOG, job.ranks == 1, seen)
        self.running.append((job, process, slot))
        if self.stopping and process.pid:  # since it began to start
            os.kill(process.pid, signal.SIGTERM)

    def ended(self) -> Iterator[tuple[Job, int]]:
        """Remove the processes that have ended and yield their cells and exit codes."""
        for job, process, slot in list(self.running):
            code = process.exitcode
            if code is not None:
                self.running.remove((job, process, slot))
                yield job, code

    def stop(self, number: int, frame: Any) -> None:
        """Handle a signal: forward it to the runs, and start no more of them."""
        self.stopping = True
        for _, process, _ in self.running:
            if process.pid and process.is_alive():
                os.kill(process.pid, number)


def unfinished(jobs: Sequence[Job]) -> dict[str, str]:
    """Return name -> reason of the cells that are not done.

    A cell is done if all stages of its run would be skipped now. The reason is what has changed since its run finished,
    or empty if it has not finished. Inputs that cells share are hashed once.
    """
    hash_of, found = cache(input_hash), {}
    for job in jobs:
        has_ended = job.has_ended
        why = pipeline.change(job.config, hash_of) if has_ended else ""
        if why or not has_ended:
            found[job.cell.name] = why
    return found


def print_changed(what: str, left: Mapping[str, str], cells: int) -> None:
    """Print one line on those ``left`` (from ``unfinished``) whose inputs have changed; ``cells``: number of all."""
    changed = [f"{cell}: {why}" for cell, why in left.items() if why]
    if changed:
        say(f"study: {what} because something has changed: {len(changed)} of {cells} cells ({changed[0]})")


def run_cells(jobs: Sequence[Job], processes: int) -> list[Job]:
    """Run the cells that are not done, ``processes`` at a time; return those that failed.

    A requeued Slurm job does not retry cells that failed in its earlier starts. USR1, TERM and HUP are forwarded to
    the runs, which save and end; then ``SystemExit`` with ``ranks.MORE_TO_DO`` is raised.
    """
    from nemo_adapt import devices  # torch

    left = unfinished(jobs)
    print_changed("run again", left, len(jobs))
    failed = [job for job in jobs if job.cell.name in left and job.has_failed_here]
    todo = [job for job in jobs if job.cell.name in left and job not in failed]
    workers = Workers(context(processes * max((job.ranks for job in todo), default=1)), devices.gpu_count())
    with Bar("study", len(jobs), "cells", done=len(jobs) - len(todo)) as bar, _forwarding_signals(workers):
        while workers.running or (todo and not workers.stopping):
            while todo and len(workers.running) < processes and not workers.stopping:
                workers.start(todo.pop(0))
            for job, code in workers.ended():
                if code in STOPPED:  # srun signals a task's processes one by one: this process's may come later
                    time.sleep(LOOK_SECONDS)
                if code == 0:
                    write_json(job.folder / DONE, {"command": job.command})
                elif not workers.stopping:
                    write_json(job.folder / FAILED, {"code": code, "why": _failure_reason(job, code), **this_start()})
                    failed.append(job)
                is_over = code == 0 or not workers.stopping
                bar.advance(is_over, f"{job.cell.name} {'done' if code == 0 else f'ended with {code}'}")
            time.sleep(LOOK_SECONDS)
        if workers.stopping:
            raise SystemExit(ranks.MORE_TO_DO)
    return failed


def failure(folder: Path) -> dict[str, Any]:
    """Read a cell's failure record: ``why``, exit ``code``, Slurm's ``job``; empty if its last attempt did not fail."""
    try:
        return dict(json.loads((folder / FAILED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _failure_reason(job: Job, code: int) -> str:
    """Return the last user error in a cell's log, or else how the cell ended."""
    lines = (job.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    mistakes = [line.partition(ERROR)[2] for line in lines if ERROR in line]
    if code == ranks.USER_ERROR and mistakes:
        return mistakes[-1]
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"


@contextmanager
def _forwarding_signals(workers: Workers) -> Iterator[None]:
    """Forward stop signals to the runs inside the context; terminate the runs that are left when it ends."""
    before = {number: signal.signal(number, workers.stop) for number in ranks.to_handle()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for _, process, _ in workers.running:
            process.terminate()
