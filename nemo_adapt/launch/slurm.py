"""Calls of Slurm's commands, without a shell."""

import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.launch import messages
from nemo_adapt.launch.sbatch import seconds

TIMEOUT_SECONDS = 120.0
"""Timeout of a command in seconds: long enough for Slurm's own retries while its controller restarts."""
CLUSTERS = ("SBATCH_CLUSTERS", "SLURM_CLUSTERS")
"""Variables that choose the cluster for sbatch, the second also for the other commands."""
OF_USERS = ("SLURM_CONF", "SLURM_CLUSTERS")
"""Variables ``SLURM_*`` that users set; Slurm sets the others for a job."""
FIELD = re.compile(r"(\w+)=(\S*)")
OVERRIDES = {"time": "TIMELIMIT", "array": "ARRAY_INX", "mem": "MEM_PER_NODE MEM_PER_CPU MEM_PER_GPU"}
"""Option of sbatch -> names (after ``SBATCH_``) of the variables that override it, where they are not its own name."""
NO_NODES = "requested node configuration"
"""Part of sbatch's message on a job for which there are no nodes."""
FORGOTTEN = "invalid job id"
"""Part of scontrol's message on a job that Slurm does not know; any other means that it has not answered."""
LIMIT = re.compile(r"[\d:-]+")
"""A time limit as Slurm prints it, if it is not UNLIMITED."""
RECORD = re.compile(r"^(?=JobId=\d)", re.MULTILINE)
"""Start of a job's record. Records are not lines: a job's name may contain line breaks."""


@dataclass(frozen=True)
class State:
    """A job's state as Slurm reports it."""

    state: str = ""
    """Slurm's name of the state; empty if Slurm does not know the job, or has forgotten it."""
    reason: str = ""
    exit_code: str = ""
    nodes: str = ""
    run_time: str = ""
    time_limit: str = ""
    start: str = ""
    restarts: int = 0
    tasks: tuple[tuple[str, int], ...] = ()
    """Of a job array: (state, number of its tasks in that state)."""
    unanswered: str = ""
    """Why Slurm did not answer, in which case nothing is known of the job; empty if it did."""

    @property
    def is_live(self) -> bool:
        """Whether the job has not ended, as far as is known."""
        return self.state in messages.LIVE or bool(self.unanswered)


def missing(command: str) -> bool:
    """Return whether a command of Slurm is not installed on this machine."""
    return shutil.which(command) is None


def call(words: Sequence[str], timeout: float = TIMEOUT_SECONDS, without: Collection[str] = ()) -> tuple[int, str, str]:
    """Run a command and return (exit code, stdout, stderr); code 1 and a reason if it cannot run or times out.

    Variables ``SLURM_*`` of a job that this process may run in are not passed on, except those in ``OF_USERS``; nor are
    those in ``without``.
    """
    left = (name for name in os.environ if not name.startswith("SLURM_") or name in OF_USERS)
    environment = {name: os.environ[name] for name in left if name not in without}
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # a job's comment or folder, of any user
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"{words[0]} did not answer within {timeout:.0f} s"
    except OSError as error:
        return 1, "", str(error)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def overriding(script: Path) -> set[str]:
    """Return the environment variables that, for sbatch, would override options in the head of a job's script.

    Users have SBATCH_ACCOUNT and the like as defaults for their own jobs.
    """
    lines = script.read_text(encoding="utf-8").splitlines() if script.is_file() else []
    options = [line.removeprefix("#SBATCH --").partition("=")[0] for line in lines if line.startswith("#SBATCH --")]
    names = [name for option in options for name in OVERRIDES.get(option, option.upper().replace("-", "_")).split()]
    return {f"SBATCH_{name}" for name in (*names, "NO_REQUEUE")} | {*(CLUSTERS if "clusters" in options else ())}


def submit(words: Sequence[str]) -> tuple[str, str]:
    """Submit a job; return its id, and the cluster that it is on, empty if none was chosen. ``UserError`` if Slurm
    rejects it."""
    code, out, said = call(words, without=overriding(Path(words[-1])))
    number, _, cluster = out.partition(";")
    if code or not number.isdigit():
        raise UserError(f"Slurm refuses the job {Path(words[-1]).stem}: {messages.refusal(said or out)}")
    return number, cluster


def test(words: Sequence[str], nodes: int, partition: str, clusters: str = "") -> str:
    """``UserError`` if Slurm would reject a job of ``nodes`` nodes (``--test-only``).

    The test also fails while too many of the partition's nodes are down or drained, although Slurm lets such a job wait
    for them: then return a note, else "".
    """
    code, out, said = call([words[0], "--test-only", *words[1:]], without=overriding(Path(words[-1])))
    if not code:
        return ""
    job = Path(words[-1]).stem
    if NO_NODES in said.lower():
        for other, every in _nodes(partition, clusters):
            if every - other < nodes <= every:
                return f"{other} of {every} nodes are down or drained (sinfo): {job}, on {nodes}, will wait for them"
    raise UserError(f"Slurm refuses the job {job}: {messages.refusal(said or out)}")


def _nodes(partition: str, clusters: str) -> list[tuple[int, int]]:
    """Return for each partition of a list (empty: the default one) its numbers of nodes that are down or drained, and
    of all nodes; empty if they cannot be known."""
    asked = [f"--partition={partition}"] if partition else []
    code, out, _ = _ask(["sinfo", "--noheader", *asked, "--format=%P %F"], clusters)
    rows = [line.split() for line in out.splitlines() if not code]
    counts = [row[1].split("/") for row in rows if len(row) == 2 and (partition or row[0].endswith("*"))]
    return [(int(row[2]), int(row[3])) for row in counts if len(row) == 4 and all(map(str.isdigit, row))]


def _ask(words: Sequence[str], cluster: str, timeout: float = 30) -> tuple[int, str, str]:
    """``call`` for a cluster; empty: this machine's own, whatever the user's environment says."""
    chosen = [f"--clusters={cluster}"] if cluster else []
    return call([words[0], *chosen, *words[1:]], timeout, without=CLUSTERS)


def cancel(numbers: Sequence[str], cluster: str = "") -> None:
    """Cancel jobs of a cluster (empty: this machine's own) by their ids; ``UserError`` if Slurm does not."""
    code, _, said = _ask(["scancel", *numbers], cluster, TIMEOUT_SECONDS)
    if code:
        raise UserError(f"scancel {' '.join(numbers)}: {messages.refusal(said)}")


def longest(partition: str, clusters: str = "") -> str:
    """Return the longest time limit that a partition (several: any of them; empty: the default one) allows, in Slurm's
    format; empty if there is none, or it cannot be known, as with several clusters, which scontrol does not take."""
    code, out, _ = _ask(["scontrol", "--oneliner", "show", "partition"], clusters)
    known = [dict(FIELD.findall(line)) for line in out.splitlines() if not code]
    names = partition.split(",")
    of = [one for one in known if (one.get("PartitionName") in names if partition else one.get("Default") == "YES")]
    limits = [one.get("MaxTime", "") for one in of]
    return max(limits, key=seconds) if limits and all(map(LIMIT.fullmatch, limits)) else ""


def states(numbers: Sequence[str], cluster: str = "") -> dict[str, State]:
    """Return the states of jobs of a cluster (empty: this machine's own) by id: from the controller, or from accounting
    for jobs that it has forgotten.

    Once the controller has not answered, it is not asked again: it may take half a minute each time.
    """
    found: dict[str, State] = {}
    why = ""
    for number in numbers:
        found[number] = State(unanswered=why) if why else _from_controller(number, cluster)
        why = found[number].unanswered
    forgotten = [number for number, state in found.items() if not state.state]
    return {**found, **_from_accounting(forgotten, cluster)}


def _from_controller(number: str, cluster: str) -> State:
    code, out, said = _ask(["scontrol", "--oneliner", "show", "job", number], cluster)
    if code:
        return State(unanswered=messages.refusal(said) if said and FORGOTTEN not in said.lower() else "")
    records = [_record(part) for part in RECORD.split(out) if part]
    return _merged(records) if records else State()


def _record(said: str) -> tuple[State, int]:
    """Parse a record of ``scontrol show job``: the state, and the number of array tasks it is about (0: no array)."""
    fields: dict[str, str] = {}
    for name, value in FIELD.findall(said.partition(" Command=")[0]):  # file names follow, which may look like fields
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
    """Return the number of tasks in an array specification such as ``0-3,7%2``; 0 for a job that is not an array."""
    ranges = [part.partition("-") for part in numbers.partition("%")[0].split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges if first.isdigit())


def _merged(records: Sequence[tuple[State, int]]) -> State:
    """Merge the records of a job; of an array, return the most relevant task's state with the counts of all states."""
    told = min((state for state, _ in records), key=lambda state: _rank(state.state))
    if not any(tasks for _, tasks in records):
        return told
    counts: dict[str, int] = {}
    for state, tasks in records:
        counts[state.state] = counts.get(state.state, 0) + max(1, tasks)
    return replace(told, restarts=max(state.restarts for state, _ in records), tasks=tuple(counts.items()))


def _rank(state: str) -> int:
    """Return the rank of a task's state in representing its array: running, then waiting, failed, done."""
    if state in messages.LIVE:
        return 1 if state in messages.WAITING else 0
    return 3 if state == "COMPLETED" else 2


def _from_accounting(numbers: Sequence[str], cluster: str) -> dict[str, State]:
    """Return the states of jobs by id from sacct; empty where there is no accounting."""
    if not numbers or missing("sacct"):
        return {}
    columns = "JobID,State,Reason,ExitCode,NodeList,Elapsed,Timelimit,Start"
    words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(numbers)}"]
    code, out, _ = _ask([*words, f"--format={columns}"], cluster)
    found: dict[str, list[tuple[State, int]]] = {}
    for row in (line.split("|") for line in out.splitlines() if not code):
        if len(row) == len(columns.split(",")) and row[1]:
            number, name, why, exit_code, nodes, run_time, limit, start = row
            state = State(name.split()[0].rstrip("+"), why, exit_code, nodes, run_time, limit, start)
            number, _, task = number.partition("_")
            found.setdefault(number, []).append((state, _tasks(task.strip("[]"))))
    return {number: _merged(records) for number, records in found.items()}
