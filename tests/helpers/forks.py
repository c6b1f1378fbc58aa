"""Processes forked from one that has imported everything, and commands in them: a start takes a second, not eight."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import torch
import torch.multiprocessing as mp

from nemo_adapt import devices
from nemo_adapt.study import start


def context() -> Any:
    """Return the context of processes that are forks of one that has imported Megatron; on a GPU they are new ones, as
    CUDA does not survive a fork."""
    found = mp.get_context("spawn" if devices.on_gpu() else "forkserver")
    if not devices.on_gpu():
        found.set_forkserver_preload(["nemo_adapt.study.preload"])
    return found


@dataclass(frozen=True)
class Fork:
    """A command that runs; its output is in ``log``."""

    process: BaseProcess
    log: Path

    def poll(self) -> int | None:
        """Return the exit code; ``None`` while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, patience: float) -> tuple[int, str]:
        """Wait at most ``patience`` seconds; return the exit code (of a signal: its number, negative) and the output.
        A command that takes longer is killed, and has -9."""
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, self.log.read_text(encoding="utf-8")


def fork(command: Sequence[str], folder: Path, change: Callable[[], None] | None = None) -> Fork:
    """Start ``nemo-adapt COMMAND`` in ``folder`` after ``change()``, with one thread."""
    number, name = mkstemp(".log", dir=folder)
    os.close(number)
    process = context().Process(target=_run, args=(list(command), folder, Path(name), change))
    process.start()
    return Fork(process, Path(name))


def _run(command: list[str], folder: Path, log: Path, change: Callable[[], None] | None) -> None:
    os.chdir(folder)
    torch.set_num_threads(1)
    if change:
        change()
    start._run(command, log, True, {"OMP_NUM_THREADS": "1"})
