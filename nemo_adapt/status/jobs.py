"""The Slurm jobs of a launched run: their states in plain words, and the ends of their logs."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.errors import ERROR
from nemo_adapt.launch import messages, slurm
from nemo_adapt.launch.paths import LaunchPaths, cluster_of, submitted
from nemo_adapt.launch.slurm import State
from nemo_adapt.status.run_files import is_alive, written
from nemo_adapt.training_files import Record

NO_JOBS: Mapping[str, State] = {}
LOG_LINES = 5
LOG_BYTES = 16 << 10
"""Bytes read from the end of a log."""
FOLLOWS = re.compile(
    r"srun: (launch/slurm: |Force Terminated|Job step aborted|error: \S+ tasks? .*: (Exited with exit code|Terminated))"
    r"|slurmstepd\S* error: \*\*\* (STEP|JOB) .* CANCELLED AT|nemo-adapt: the ranks ended with code"
)
"""Log lines of Slurm and of our script that only follow a failure; its reason is above them."""
NOT_STARTED = re.compile(
    r"slurmstepd\S* error: ((?:pyxis: )?.*(?:\[ERROR\]|failed to import|failed to mount|does not exist|execve\(\)).*)"
)
"""Log lines of pyxis, enroot or the node on why a process could not be started."""


@dataclass
class JobState:
    """One job of the chain."""

    name: str
    id: str
    slurm: str
    """Slurm's name of its state; empty if Slurm does not know the job or cannot be asked."""
    state: str
    """The state in plain words."""
    reason: str
    nodes: str
    run_time: str
    """Run time since its last start, in Slurm's format."""
    time_limit: str
    restarts: int
    is_live: bool
    log: str


def states(root: Path) -> dict[str, State]:
    """Return the states of a run's jobs by id; empty if it was not launched or Slurm cannot be asked."""
    launched = submitted(root)
    numbers = [str(job["id"]) for job in launched]
    return slurm.states(numbers, cluster_of(launched)) if numbers and not slurm.missing("scontrol") else {}


def jobs(root: Path, known: Mapping[str, State]) -> list[JobState]:
    """Return the jobs of a launched run in order, given their states (``states``)."""
    paths = LaunchPaths(root)
    return [_job(job["name"], str(job["id"]), paths, known, job.get("tasks", 0)) for job in submitted(root)]


def is_running(owner: Record, since: float, known: Mapping[str, State]) -> bool | None:
    """Return whether the processes of ``owner``, a start (``starts.py``), run, according to this host or to Slurm;
    ``None`` if neither knows.

    ``since``: see ``is_alive``. ``known``: the states of the run's jobs by id. One that Slurm has forgotten has ended.
    """
    here, job = is_alive(owner, since), known.get(str(owner.get("job")))
    if here is not None or job is None or job.unanswered:
        return here
    return job.state in ("RUNNING", "COMPLETING")


def relevant_log(found: list[JobState]) -> tuple[str, list[str]]:
    """Return the path and the last lines of the most relevant log: that of the first live job, else of the last job
    that has one. Empty if no job has a log.

    Lines that only follow a failure are left out.
    """
    begun = [job for job in found if Path(job.log).is_file()]
    running = [job for job in begun if job.is_live]
    chosen = next(iter([*running, *reversed(begun)]), None)
    if not chosen:
        return "", []
    lines = end_of(Path(chosen.log))
    return chosen.log, ([line for line in lines if not FOLLOWS.match(line)] or lines)[-LOG_LINES:]


def _job(name: str, number: str, paths: LaunchPaths, known: Mapping[str, State], tasks: int) -> JobState:
    log = paths.log(name, number)
    if tasks:  # each task has its own log: take the one written last
        log = max(log.parent.glob(f"{log.stem}_*{log.suffix}"), key=written, default=log)
    found = known.get(number, State())
    why = messages.reason(found.state, found.reason, found.exit_code)
    if found.state == "FAILED":
        why = _error(log) or why
    if found.tasks:
        counts = ", ".join(f"{count} {messages.state(state)}" for state, count in found.tasks)
        why = f"{counts}, {why}" if why and found.state in messages.WAITING else counts
    if found.state in messages.WAITING and found.start:
        why = f"{why}, expected to start at {found.start}"
    if not found.state:
        gone = "Slurm does not know it any more" if known else "Slurm cannot be asked on this machine"
        word, why = "unknown", found.unanswered or gone
    else:
        word = messages.state(found.state)
    return JobState(
        name,
        number,
        found.state,
        word,
        why,
        found.nodes,
        found.run_time,
        found.time_limit,
        found.restarts,
        found.is_live,
        str(log),
    )


def end_of(log: Path) -> list[str]:
    """Return the non-blank lines in the last ``LOG_BYTES`` of a log; none if it cannot be read."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_BYTES))
            return [line for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def _error(log: Path) -> str:
    """Return the last error that nemo-adapt reported in a log, else the first reason why a process could not start."""
    lines = end_of(log)
    named = [line.partition(ERROR)[2] for line in lines if ERROR in line]
    not_started = [" ".join(found[1].split()) for found in map(NOT_STARTED.match, lines) if found]
    return [*named[-1:], *not_started[:1], ""][0]
