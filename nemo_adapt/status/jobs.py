"""The Slurm jobs of a launched run: their states in plain words, and what they have said."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.errors import ERROR
from nemo_adapt.launch import slurm, words
from nemo_adapt.launch.places import Place, submitted
from nemo_adapt.launch.slurm import State
from nemo_adapt.status.traces import written

LOG_LINES = 5
LOG_BYTES = 16 << 10
"""Of a log the end is read."""
FOLLOWS = re.compile(
    r"srun: (launch/slurm: |Force Terminated|Job step aborted|error: \S+ tasks? .*: (Exited with exit code|Terminated))"
    r"|slurmstepd\S* error: \*\*\* (STEP|JOB) .* CANCELLED AT|nemo-adapt: the ranks ended with code"
)
"""What Slurm and our script say once something has failed: no reason by itself, and where the reason stands above."""
NOT_STARTED = re.compile(
    r"slurmstepd\S* error: ((?:pyxis: )?.*(?:\[ERROR\]|failed to import|failed to mount|does not exist|execve\(\)).*)"
)
"""Why a process could not be started at all: what pyxis, enroot or the node says."""


@dataclass
class JobState:
    """One job of the chain."""

    name: str
    id: str
    slurm: str
    """Slurm's own name of its state; empty where Slurm does not know the job, or cannot be asked."""
    state: str
    """In plain words."""
    reason: str
    nodes: str
    run_time: str
    """So far, of its last start."""
    time_limit: str
    restarts: int
    is_live: bool
    log: str


def states(root: Path) -> dict[str, State]:
    """How the jobs of a run are, by number; none where it was not launched, or Slurm cannot be asked."""
    numbers = [str(job["id"]) for job in submitted(root)]
    return slurm.states(numbers) if numbers and not slurm.missing("scontrol") else {}


def jobs(root: Path, known: Mapping[str, State]) -> list[JobState]:
    """The jobs of a launched run, in order, given what Slurm knows of them."""
    place = Place(root)
    return [_job(job["name"], str(job["id"]), place, known, job.get("tasks", 0)) for job in submitted(root)]


def told(found: list[JobState]) -> tuple[str, list[str]]:
    """The log that is worth reading: of the job that runs, that has failed, or that ended last; and its last lines."""
    begun = [job for job in found if Path(job.log).is_file()]
    running = [job for job in begun if job.is_live]
    chosen = next(iter([*running, *reversed(begun)]), None)
    if not chosen:
        return "", []
    lines = end_of(Path(chosen.log))
    return chosen.log, ([line for line in lines if not FOLLOWS.match(line)] or lines)[-LOG_LINES:]


def _job(name: str, number: str, place: Place, known: Mapping[str, State], tasks: int) -> JobState:
    log = place.log(name, number)
    if tasks:  # each has a log of its own: that of the last that said something
        log = max(log.parent.glob(f"{log.stem}_*{log.suffix}"), key=written, default=log)
    found = known.get(number, State())
    why = words.reason(found.state, found.reason, found.exit_code)
    if found.state == "FAILED":
        why = _error(log) or why
    if found.tasks:
        why = ", ".join(f"{count} {words.state(state)}" for state, count in found.tasks)
    if found.state in words.WAITING and found.start:
        why = f"{why}, expected to start at {found.start}"
    if not found.state:
        word, why = "unknown", "Slurm does not know it any more" if known else "Slurm cannot be asked on this machine"
    else:
        word = words.state(found.state)
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
    """The last lines of a log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - LOG_BYTES))
            return [line for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def _error(log: Path) -> str:
    """The last mistake that a job has named; where its process could not be started, the first reason for that."""
    lines = end_of(log)
    named = [line.partition(ERROR)[2] for line in lines if ERROR in line]
    not_started = [" ".join(found[1].split()) for found in map(NOT_STARTED.match, lines) if found]
    return [*named[-1:], *not_started[:1], ""][0]
