"""Trainings as a user starts them, and what can happen to them."""

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

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.whole import complete, damage

PATIENCE = 240.0
"""Seconds that anything may take on a busy machine."""


@dataclass
class Training:
    """The run ``name`` in ``world``, made from the folders of a prepared one; ``words`` are its settings."""

    world: Path
    name: str
    words: list[str]
    python: str = sys.executable
    """Whose packages it is started with."""

    @property
    def folder(self) -> Path:
        return self.world / "runs" / self.name / "train"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @classmethod
    def prepared(cls, world: Path, name: str, words: list[str], prepared: str) -> "Training":
        """A new run that has all that comes before training."""
        for part in ("tokenizer", "data", "convert"):
            shutil.copytree(world / "runs" / prepared / part, world / "runs" / name / part)
        return cls(world, name, words)

    def start(self, program: tuple[str, str] = ("-m", "nemo_adapt")) -> subprocess.Popen[str]:
        """Start it, as Python's ``program``; the answer's output is text."""
        return subprocess.Popen(
            [self.python, *program, "train", *self.words, f"run.name={self.name}"],
            cwd=self.world,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )

    def run(self, program: tuple[str, str] = ("-m", "nemo_adapt")) -> tuple[int, str]:
        """Start it and wait: exit code and output."""
        process = self.start(program)
        out, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, out

    def steps(self) -> int:
        """Steps that metrics.jsonl tells of."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return int(json.loads(lines[-1])["step"]) if lines and lines[-1].endswith("}") else 0

    def losses(self) -> list[tuple[int, float]]:
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [(record["step"], record["loss"]) for record in map(json.loads, lines)]

    def weights(self) -> dict[str, torch.Tensor]:
        """All tensors of the last checkpoint, the optimizer's too."""
        opened = Checkpoint(complete(self.checkpoints)[-1])
        return {key: opened.read(key, (0,) * len(size), size) for key, size in opened.sizes.items()}

    def assert_sound(self) -> None:
        """Every checkpoint that has its name is whole."""
        for place in complete(self.checkpoints):
            assert not damage(place), place


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> bool:
    """Until it has happened; False if the process ended before."""
    until = time.monotonic() + PATIENCE
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < until
        time.sleep(0.02)
    return True


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The ranks that a training has started."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "rank" in child.cmdline():
                    found.append(child)
    return found


def kill_all(process: subprocess.Popen[str]) -> None:
    """As a node that fails: the command, all ranks, and what they have started, at once."""
    with contextlib.suppress(psutil.NoSuchProcess):
        whole = psutil.Process(process.pid)
        for each in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.communicate(timeout=PATIENCE)


def kill_one(process: subprocess.Popen[str], draw: random.Random) -> None:
    """One rank, as when memory runs out; the command then ends the others."""
    alive = ranks_of(process)
    if alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(alive).kill()
    process.communicate(timeout=PATIENCE)
