"""Where a launched run keeps what its jobs need, in the run's folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """``launch/`` and ``logs/`` of one run."""

    root: Path

    @property
    def folder(self) -> Path:
        """All that was launched."""
        return self.root / "launch"

    @property
    def config(self) -> Path:
        """The configuration as it was launched."""
        return self.folder / "config.yaml"

    @property
    def code(self) -> Path:
        """The program that the jobs start: this package as it was, beside it."""
        return self.folder / "code" / "main.py"

    @property
    def jobs(self) -> Path:
        """What was submitted: names and numbers of the jobs."""
        return self.folder / "jobs.json"

    def script(self, job: str) -> Path:
        """A job's script."""
        return self.folder / f"{job}.sh"

    def log(self, job: str, number: str) -> Path:
        """What a job has said."""
        return self.root / "logs" / f"{job}-{number}.log"


def submitted(root: Path) -> list[dict[str, Any]]:
    """The jobs of a run, in order: ``name`` and ``id`` of each; none where it was not launched."""
    try:
        return list(json.loads(Place(root).jobs.read_text(encoding="utf-8"))["jobs"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
