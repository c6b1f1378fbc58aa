"""Paths in a run's folder of what its Slurm jobs need."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.machine.starts import this_start


@dataclass(frozen=True)
class LaunchPaths:
    """Paths in ``launch/`` and ``logs/`` of one run."""

    root: Path
    """The run's folder."""

    @property
    def folder(self) -> Path:
        """The folder of all files written at launch."""
        return self.root / "launch"

    @property
    def config(self) -> Path:
        """The configuration as it was launched."""
        return self.folder / "config.yaml"

    @property
    def code(self) -> Path:
        """The program that the jobs start; next to it is a copy of this package as of the launch."""
        return self.folder / "code" / "main.py"

    @property
    def jobs(self) -> Path:
        """Record of the submission: names and Slurm ids of the jobs, and versions."""
        return self.folder / "jobs.json"

    def script(self, job: str) -> Path:
        """Return the path of a job's script."""
        return self.folder / f"{job}.sh"

    @property
    def seen(self) -> Path:
        """The folder of what each start of a job notes: which nodes see the run's folder, and ``started``."""
        return self.folder / "seen"

    def of_start(self, what: str) -> Path:
        """Return the file that tells the script of this start of a job something."""
        start = this_start()
        return self.seen / f"{start['job']}.{start['restart']}.{what}"

    @property
    def started(self) -> Path:
        """The file that says that all processes run: the script then forwards signals."""
        return self.of_start("started")

    @property
    def mistake(self) -> Path:
        """The file that says that a user's mistake has ended a rank: srun has the code of others, which it kills."""
        return self.of_start("mistake")

    def tell(self, file: Path) -> None:
        """Write one of these, if there is a job script of ours."""
        if self.seen.is_dir():
            file.touch()

    def log(self, job: str, number: str) -> Path:
        """Return the path of a job's log; ``number`` is its Slurm id."""
        return self.root / "logs" / f"{job}-{number}.log"


def submitted(root: Path) -> list[dict[str, Any]]:
    """Return the submitted jobs of a run in order, with at least ``name`` and ``id``; empty if it was not launched, or
    is a copy of one that was."""
    return [] if original_of(root) else list(_record(root).get("jobs") or [])


def original_of(root: Path) -> str:
    """Return the folder of the run that was launched, if ``root`` is a copy of it; empty for that run itself, also
    after it was moved."""
    launched = str(_record(root).get("root", ""))
    try:
        return "" if not launched or root.samefile(launched) else launched
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError:  # another user's, which may not be looked at
        return launched


def _record(root: Path) -> dict[str, Any]:
    """Return what was recorded at a run's submission; empty if it was not launched."""
    try:
        found = json.loads(LaunchPaths(root).jobs.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def cluster_of(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return the cluster that a run's submitted jobs are on; empty: that of the machine they were submitted from."""
    return str(jobs[0].get("cluster", "")) if jobs else ""
