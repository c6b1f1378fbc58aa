"""Run ``nemo-adapt`` from a benchmark."""

import subprocess
import sys


def command(*words: str) -> None:
    """Run ``nemo-adapt WORDS``; exit if it fails."""
    done = subprocess.run([sys.executable, "-m", "nemo_adapt", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
