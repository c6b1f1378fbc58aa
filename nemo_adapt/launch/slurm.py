"""Slurm's own commands, called without a shell."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.launch import words as plain

PATIENCE = 120.0
"""Seconds that a command may take: Slurm's own waits longer than its controller may take to restart."""
FIELD = re.compile(r"(\w+)=(\S*)")
RECORD = re.compile(r"^(?=JobId=\d)", re.MULTILINE)
"""Where a job's facts begin. They are no line: there are line breaks in them where its name has some."""


@dataclass(frozen=True)
class State:
    """How a job is, as Slurm knows it."""

    state: str = ""
    """Slurm's name; empty where it does not know the job (any more)."""
    reason: str = ""
    exit_code: str = ""
    nodes: str = ""
    run_time: str = ""
    time_limit: str = ""
    start: str = ""
    restarts: int = 0
    tasks: tuple[tuple[str, int], ...] = ()
    """Of an array: states of its tasks, and how many are in each."""

    @property
    def is_live(self) -> bool:
        """Whether the job has not ended."""
        return self.state in plain.LIVE


def missing(command: str) -> bool:
    """Whether one of Slurm's commands is not on this machine."""
    return shutil.which(command) is None


def call(words: Sequence[str], timeout: float = PATIENCE) -> tuple[int, str, str]:
    """Run a command: exit code, output, errors. What the job we may be in tells of itself is not passed on."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    if "SLURM_CONF" in os.environ:
        environment["SLURM_CONF"] = os.environ["SLURM_CONF"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return 1, "", f"{words[0]} did not answer within {timeout:.0f} s"
    except OSError as error:
        return 1, "", str(error)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def submit(words: Sequence[str]) -> str:
    """Submit a job; its number. ``UserError`` where Slurm refuses it."""
    code, out, said = call(words)
    number = out.partition(";")[0]  # a cluster's name may follow
    if code or not number.isdigit():
        raise UserError(f"Slurm refuses the job {Path(words[-1]).stem}: {plain.refusal(said or out)}")
    return number


def test(words: Sequence[str]) -> None:
    """``UserError`` where Slurm would refuse a job."""
    code, out, said = call([words[0], "--test-only", *words[1:]])
    if code:
        raise UserError(f"Slurm refuses the job {Path(words[-1]).stem}: {plain.refusal(said or out)}")


def cancel(numbers: Sequence[str]) -> None:
    """End jobs; ``UserError`` where Slurm does not."""
    code, _, said = call(["scancel", *numbers])
    if code:
        raise UserError(f"scancel {' '.join(numbers)}: {plain.refusal(said)}")


def states(numbers: Sequence[str]) -> dict[str, State]:
    """How jobs are, by number: what the controller knows, and of those that it has forgotten, accounting."""
    found = {number: _known(number) for number in numbers}
    forgotten = [number for number, state in found.items() if not state.state]
    return {**found, **_accounted(forgotten)}


def _known(number: str) -> State:
    code, out, _ = call(["scontrol", "--oneliner", "show", "job", number], timeout=30)
    if code:
        return State()
    records = [_record(part) for part in RECORD.split(out) if part]
    return _together(records) if records else State()


def _record(said: str) -> tuple[State, int]:
    """What ``scontrol show job`` says of a job, or of so many tasks of an array."""
    fields: dict[str, str] = {}
    for name, value in FIELD.findall(said.partition(" Command=")[0]):  # names of files follow
        fields.setdefault(name, "" if value in ("(null)", "N/A", "Unknown") else value)
    return State(
        fields.get("JobState", ""),
        fields.get("Reason", ""),
        fields.get("ExitCode", ""),
        fields.get("NodeList", ""),
        fields.get("RunTime", ""),
        fields.get("TimeLimit", ""),
        fields.get("StartTime", ""),
        int(fields.get("Restarts", "0") or 0),
    ), _tasks(fields.get("ArrayTaskId", ""))


def _tasks(numbers: str) -> int:
    """How many tasks ``0-3,7%2`` are; 0 where there are no numbers, for a job that is no array."""
    ranges = [part.partition("-") for part in numbers.partition("%")[0].split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges if first.isdigit())


def _together(records: Sequence[tuple[State, int]]) -> State:
    """A job; of an array, the task that tells most, with the states of all."""
    told = min((state for state, _ in records), key=lambda state: _rank(state.state))
    if not any(tasks for _, tasks in records):
        return told
    counts: dict[str, int] = {}
    for state, tasks in records:
        counts[state.state] = counts.get(state.state, 0) + max(1, tasks)
    return replace(told, restarts=max(state.restarts for state, _ in records), tasks=tuple(counts.items()))


def _rank(state: str) -> int:
    """Which states of tasks stand for their array first: running, waiting, failed, done."""
    if state in plain.LIVE:
        return 1 if state in plain.WAITING else 0
    return 3 if state == "COMPLETED" else 2


def _accounted(numbers: Sequence[str]) -> dict[str, State]:
    """The same from sacct, where accounting is kept."""
    if not numbers or missing("sacct"):
        return {}
    columns = "JobID,State,Reason,ExitCode,NodeList,Elapsed,Timelimit,Start"
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(numbers)}"]
    code, out, _ = call([*words, f"--format={columns}"], timeout=30)
    found: dict[str, list[tuple[State, int]]] = {}
    for row in (line.split("|") for line in out.splitlines() if not code):
        if len(row) == len(columns.split(",")) and row[1]:
            number, name, why, exit_code, nodes, run_time, limit, start = row
            state = State(name.split()[0].rstrip("+"), why, exit_code, nodes, run_time, limit, start)
            number, _, task = number.partition("_")
            found.setdefault(number, []).append((state, _tasks(task.strip("[]"))))
    return {number: _together(records) for number, records in found.items()}
