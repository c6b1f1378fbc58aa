"""Trainings started as a user starts them, and ways to interrupt them."""

import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from helpers.command import environment
from helpers.forks import Fork, fork

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.checkpoint.integrity import damage
from nemo_adapt.checkpoint.reader import Checkpoint

PATIENCE = 240.0
"""Timeout in seconds for anything on a busy machine."""


@dataclass
class Training:
    """The training of run ``name`` in ``world``, with the settings ``words``."""

    world: Path
    name: str
    words: list[str]
    python: str = sys.executable
    """The Python interpreter that runs it."""

    @property
    def folder(self) -> Path:
        return self.world / "runs" / self.name / "train"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @classmethod
    def prepared(cls, world: Path, name: str, words: list[str], prepared: str) -> "Training":
        """Make a new run with a copy of all stages of the run ``prepared`` that come before training."""
        for part in ("tokenizer", "data", "convert"):
            shutil.copytree(world / "runs" / prepared / part, world / "runs" / name / part)
        return cls(world, name, words)

    @property
    def command(self) -> list[str]:
        """The arguments of ``nemo-adapt``."""
        return ["train", *self.words, f"run.name={self.name}"]

    def start(self) -> subprocess.Popen[str]:
        """Start it, with stdout and stderr in one text pipe."""
        return subprocess.Popen(
            [self.python, "-m", "nemo_adapt", *self.command],
            cwd=self.world,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )

    def run(self) -> tuple[int, str]:
        """Start it and wait; return exit code and output."""
        process = self.start()
        out, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, out

    def fork(self, change: Callable[[], None] | None = None) -> Fork:
        """Start it as the only rank, in a fork that first calls ``change``, a function of a module or its partial."""
        return fork(self.command, self.world, change)

    def run_fork(self, change: Callable[[], None] | None = None) -> tuple[int, str]:
        """Start it so and wait; return exit code and output."""
        return self.fork(change).end(PATIENCE)

    def steps(self) -> int:
        """Return the last step in metrics.jsonl (0: none)."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0

    def losses(self) -> list[tuple[int, float]]:
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [(record["step"], record["loss"]) for record in map(json.loads, lines)]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return all tensors of the last checkpoint, including the optimizer state, by key."""
        opened = Checkpoint(complete(self.checkpoints)[-1])
        return {key: opened.rows(key, 0, shape[0]) for key, shape in opened.shapes.items()}

    def assert_sound(self) -> None:
        """Assert that every checkpoint with its final name is complete."""
        for place in complete(self.checkpoints):
            assert not damage(place), place


def wait_for(process: subprocess.Popen[str] | Fork, happened: Callable[[], bool]) -> bool:
    """Wait until ``happened()``; return False if the process ended before."""
    until = time.monotonic() + PATIENCE
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < until
        time.sleep(0.02)
    return True


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the rank processes of a training, which are the forks of its fork server, in their order."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = [rank for server in fork_servers_of(process) for rank in server.children()]
        return sorted(found, key=lambda rank: rank.pid)
    return []


def fork_servers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the fork server of a training; none before it runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children()
        return [child for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())]
    return []


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill the command and all its descendants at once, as when a node fails."""
    with contextlib.suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process.pid)
        for each in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.communicate(timeout=PATIENCE)


def kill_one(process: subprocess.Popen[str], draw: random.Random) -> None:
    """Kill one random rank, as the kernel does when memory runs out; the command then ends the others."""
    alive = ranks_of(process)
    if alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(alive).kill()
    process.communicate(timeout=PATIENCE)
