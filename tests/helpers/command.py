"""Run the command line as a user does, in a separate process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """The exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str


def environment() -> dict[str, str]:
    """Return a user's environment with one thread per process; commands get the GPU stand-in if the tests run on it."""
    path = os.environ.get("PYTHONPATH", "") if "NEMO_ADAPT_STANDIN" in os.environ else ""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def nemo_adapt(*words: str, cwd: Path, timeout: float = 300.0) -> Answer:
    """Run ``nemo-adapt WORDS`` in ``cwd``."""
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
    """Return the exit code of ``nemo-adapt WORDS`` with stdout and stderr on a pipe whose reader is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "nemo_adapt", *words]
        return subprocess.run(command, stdout=writer, stderr=writer, timeout=300, check=False).returncode
    finally:
        os.close(writer)
