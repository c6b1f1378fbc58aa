"""Run the command line as a user does, in a process of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """A user's, on one thread a process; where the tests have the stand-in for GPUs, commands have it too."""
    path = os.environ.get("PYTHONPATH", "") if "NEMO_ADAPT_STANDIN" in os.environ else ""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def nemo_adapt(*words: str, cwd: Path, timeout: float = 300.0) -> Answer:
    """``nemo-adapt WORDS`` in ``cwd``."""
    done = subprocess.run(
        [sys.executable, "-m", "nemo_adapt", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def unread(*words: str) -> int:
    """The exit code of ``nemo-adapt WORDS`` with nobody at the other end of the pipe that all it says goes to."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "nemo_adapt", *words]
        return subprocess.run(command, stdout=writer, stderr=writer, timeout=300, check=False).returncode
    finally:
        os.close(writer)
