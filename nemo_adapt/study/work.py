"""Running the cells of a study, each as a run of its own in processes of its own."""

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from nemo_adapt import ranks
from nemo_adapt.artifact import write_json
from nemo_adapt.progress import Bar
from nemo_adapt.study.cells import Cell
from nemo_adapt.study.start import context, start

DONE, LOG = "done.json", "log.txt"
LOOK_SECONDS = 0.2
"""Between looks at the running processes."""
MANIFEST = "evaluate/manifest.json"
"""What the last stage of a run leaves behind."""


@dataclass(frozen=True)
class Job:
    """A cell and the command that runs it."""

    cell: Cell
    folder: Path
    command: list[str]
    """Words behind ``nemo-adapt``."""
    ranks: int = 1
    """Processes of its training."""

    @property
    def done(self) -> bool:
        """Whether exactly this command has ended well."""
        path = self.folder / DONE
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return before == {"command": self.command} and (self.folder / MANIFEST).is_file()


@dataclass
class Workers:
    """The processes that are running."""

    server: ForkServerContext
    running: list[tuple[Job, ForkServerProcess]] = field(default_factory=list)
    stopping: bool = False

    def start(self, job: Job) -> None:
        """Start a cell; what it says goes to its log."""
        job.folder.mkdir(parents=True, exist_ok=True)
        process = start(self.server, job.command, job.folder / LOG, alone=job.ranks == 1)
        self.running.append((job, process))

    def ended(self) -> Iterator[tuple[Job, int]]:
        """Those that have ended since, with their exit codes."""
        for job, process in list(self.running):
            code = process.exitcode
            if code is not None:
                self.running.remove((job, process))
                yield job, code

    def stop(self, number: int, frame: Any) -> None:
        """A signal handler: hand it on, and start nothing more."""
        self.stopping = True
        for _, process in self.running:
            if process.pid and process.is_alive():
                os.kill(process.pid, number)


def part_of(jobs: Sequence[Job]) -> list[Job]:
    """In a job array of Slurm, this task's share of the cells; elsewhere all."""
    count = int(os.environ.get("SLURM_ARRAY_TASK_COUNT", "1"))
    task = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) - int(os.environ.get("SLURM_ARRAY_TASK_MIN", "0"))
    return list(jobs[task::count]) if count > 1 else list(jobs)


def work(jobs: Sequence[Job], processes: int) -> list[Job]:
    """Run what is not done yet, ``processes`` at a time; those that failed.

    On USR1 and TERM the runs are asked to save, and ``SystemExit`` has ``ranks.MORE_TO_DO``.
    """
    todo = [job for job in jobs if not job.done]
    failed: list[Job] = []
    workers = Workers(context(processes * max((job.ranks for job in todo), default=1)))
    with Bar("study", len(jobs), "cells", done=len(jobs) - len(todo)) as bar, _handing_on(workers):
        while workers.running or (todo and not workers.stopping):
            while todo and len(workers.running) < processes and not workers.stopping:
                workers.start(todo.pop(0))
            for job, code in workers.ended():
                if code == 0:
                    write_json(job.folder / DONE, {"command": job.command})
                elif not workers.stopping:
                    failed.append(job)
                bar.advance(1, f"{job.cell.name} {'done' if code == 0 else f'ended with {code}'}")
            time.sleep(LOOK_SECONDS)
        if workers.stopping:
            raise SystemExit(ranks.MORE_TO_DO)
    return failed


@contextmanager
def _handing_on(workers: Workers) -> Iterator[None]:
    """While it lasts, signals that ask to stop reach the runs; whatever ends it ends them."""
    before = {number: signal.signal(number, workers.stop) for number in ranks.STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for _, process in workers.running:
            process.terminate()
