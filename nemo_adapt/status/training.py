"""Progress of a run's training, read from its folder."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from nemo_adapt import training_files
from nemo_adapt.checkpoint.folders import CHECKPOINTS, step_of
from nemo_adapt.checkpoint.integrity import FILES
from nemo_adapt.checkpoint.scores import best
from nemo_adapt.config import Config, PhaseConfig, TrainConfig
from nemo_adapt.config.phases import ends, phases, total
from nemo_adapt.corpora import mixture
from nemo_adapt.errors import UserError
from nemo_adapt.launch.messages import WAITING
from nemo_adapt.launch.slurm import State
from nemo_adapt.machine.locks import holder, lock_of
from nemo_adapt.run.manifest import MANIFEST
from nemo_adapt.run.run_folder import RunFolder, data_folders
from nemo_adapt.status.jobs import NO_JOBS, is_running
from nemo_adapt.status.run_files import is_alive, last_written, newest_intact, read, written
from nemo_adapt.strategy_choice import with_choice
from nemo_adapt.training_files import Record, records

RECENT = 10
"""Number of records from which the current speed is computed."""
SILENT = 10
"""A training may be stuck if it has written nothing for this many times the time between records, or of a score."""
SILENT_SECONDS = 60.0
"""Shortest silence that counts: where steps are short, starting, saving and the first score take this long."""


@dataclass(frozen=True)
class Training:
    """Progress of a training. Ages and times are in seconds; unknown values are ``None`` or empty."""

    finished: bool
    step: int
    steps: int | None
    tokens: int | None
    """Token budget of all steps."""
    steps_unknown: str
    """Why the number of steps is unknown."""
    phase: int | None
    phases: int | None
    trains: str
    """What the phase trains (``train`` of the phase)."""
    record: Record
    """The last line of metrics.jsonl."""
    seconds_left: float | None
    held_out_first: Record
    held_out_last: Record
    checkpoint: str
    """Name of the newest intact checkpoint."""
    checkpoint_age: float | None
    best: Record
    """Name and bits per byte of the best checkpoint."""
    process: Record
    """The process that owns the folder: ``host``, ``pid``, ``job``, ``ranks``."""
    alive: bool | None
    """Whether it runs; ``None`` if neither this host nor Slurm knows, or the training is finished."""
    failure: str
    """The error that ended its last start; empty if there was none, or if that cannot be known."""
    age: float
    """Time since the last write to the folder."""
    usual: float | None
    """Usual time between two records."""
    scoring: float | None
    """Usual time for a score of the held-out texts."""
    starts: int
    """Consecutive starts without a new checkpoint."""
    starts_step: int
    """Step of the checkpoint that they started from."""
    attempts: int
    """Consecutive starts without a new checkpoint that are allowed; 0: any number."""
    warnings: list[str] = field(default_factory=list)


def training(config: Config, run: RunFolder, now: float, jobs: Mapping[str, State] = NO_JOBS) -> Training | None:
    """Return the progress of a run's training at ``now`` (seconds since 1970); ``None`` if it was never started.

    ``jobs``: states of the run's Slurm jobs by id, as far as they are known.
    """
    place = run["train"]
    if not place.is_dir():
        return None
    finished = bool(read(place / MANIFEST))
    metrics, held_out = records(place / training_files.METRICS), records(place / training_files.HELD_OUT, whole=True)
    checkpoint, damaged = newest_intact(place / CHECKPOINTS)
    record, saved = metrics[-1] if metrics else {}, step_of(checkpoint) if checkpoint else 0
    position = _position(config, run, finished, max(record.get("step", 0), saved), record.get("phase"))
    chosen, score = best(place / CHECKPOINTS)
    owner, since = _owner(place)
    found = Training(
        finished=finished,
        **position,
        record=record,
        **_times(config.train, finished, position["step"], position["steps"], metrics, held_out),
        held_out_first=held_out[0] if held_out else {},
        held_out_last=held_out[-1] if held_out else {},
        checkpoint=checkpoint.name if checkpoint else "",
        checkpoint_age=max(0.0, now - written(checkpoint / FILES)) if checkpoint else None,
        best={"name": chosen, "bits_per_byte": score} if chosen else {},
        process={name: owner[name] for name in ("host", "pid", "job", "ranks") if name in owner},
        alive=None if finished else is_running(owner, since, jobs),
        failure="" if finished else str(owner.get(training_files.FAILURE, "")),
        age=max(0.0, now - max(last_written(place), since)),
        **_starts(place, saved),
        attempts=config.train.attempts,
    )
    job = jobs.get(str(owner.get("job")), State())
    return replace(found, warnings=[*damaged, *([] if finished else warnings(found, is_queued=job.state in WAITING))])


def _position(config: Config, run: RunFolder, finished: bool, step: int, recorded: int | None) -> dict[str, Any]:
    """Return the fields of ``Training`` on the steps and phases; the ``recorded`` phase counts if no plan is known."""
    train = config.train
    plan, unknown = planned(config, run)
    steps = read(run["train"] / training_files.SUMMARY).get("steps") if finished else total(plan) or None
    phase = min(bisect_left(ends(plan), step) + 1, len(plan)) if plan else recorded
    return {
        "step": step,
        "steps": steps,
        "tokens": steps * train.global_batch * train.seq_length if steps else None,
        "steps_unknown": "" if steps else unknown,
        "phase": phase,
        "phases": len(plan) or None,
        "trains": plan[phase - 1].train if plan and phase else "",
    }


def _times(
    train: TrainConfig, finished: bool, step: int, steps: int | None, metrics: list[Record], held_out: list[Record]
) -> dict[str, Any]:
    """Return the fields of ``Training`` on the time that steps, records and scores take."""
    pace, usual = speed(metrics)
    scoring = median([each["seconds"] for each in held_out[-RECENT:] if "seconds" in each] or [0.0])
    every = train.score_every
    if usual and every:  # seconds of training, in which scores are not counted
        usual += scoring * min(1.0, train.log_every / every)
    scores = scores_left(held_out[-1]["step"], steps, every) * scoring if steps and held_out else 0.0
    left = max(0, steps - step) * pace + scores if steps and pace and not finished else None
    return {"seconds_left": left, "usual": usual, "scoring": scoring or None}


def _starts(place: Path, saved: int) -> dict[str, Any]:
    """Return the fields of ``Training`` on starts in a row: none where a newer checkpoint is ``saved``."""
    starts = read(place / training_files.STARTS)
    counts = starts.get("step", -1) >= saved
    return {"starts": starts.get("starts", 0) if counts else 0, "starts_step": starts.get("step", 0)}


def _owner(place: Path) -> tuple[Record, float]:
    """Return the start that a training's folder belongs to, and since when: the last one that trained, or, once that
    has ended, a process on this host that has begun to make the folder and still imports and loads."""
    note, lock = place / training_files.OWNER, lock_of(place)
    owner, maker = read(note), holder(lock)
    if owner and maker and is_alive(owner, written(note)) is False and is_alive(maker, written(lock)):
        return maker, written(lock)
    return owner, written(note)


def planned(config: Config, run: RunFolder) -> tuple[list[PhaseConfig], str]:
    """Return the phases of the training and ""; or none, and why they are not known yet."""
    try:
        config = with_choice(config, run["probe"])
        in_bytes = any(phase.bytes for phase in config.train.phases)
        folders = data_folders(config, run)
        return phases(config, mixture.bytes_per_token(config, folders) if in_bytes else 0.0), ""
    except UserError as error:
        return [], str(error)
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return [], "a phase is given in bytes, and not all data is tokenized yet"


def speed(metrics: list[Record]) -> tuple[float | None, float | None]:
    """Return (mean seconds per step, median seconds between records) of the last records; ``None`` before the first."""
    timed = [(each["step"], each["seconds"]) for each in metrics[-RECENT - 1 :] if "seconds" in each]
    if len(timed) == 1:
        timed = [(0, 0.0), *timed]  # ``seconds`` counts from the start of the training
    pairs = [(last[0] - first[0], last[1] - first[1]) for first, last in pairwise(timed)]
    pairs = [(steps, seconds) for steps, seconds in pairs if steps > 0 and seconds > 0]
    if not pairs:
        return None, None
    return sum(of for _, of in pairs) / sum(of for of, _ in pairs), median(seconds for _, seconds in pairs)


def scores_left(scored: int, steps: int, every: int) -> int:
    """Return how often the held-out texts are still scored after step ``scored``: every ``every`` steps (0: never) and
    after the last step."""
    return steps // every - scored // every + (steps % every > 0) if every and scored < steps else 0


def warnings(found: Training, is_queued: bool = False) -> list[str]:
    """Return the warnings for the user, one line each. A job that waits in the queue has not stopped."""
    said = []
    is_last = 0 < found.attempts <= found.starts
    if is_queued:
        pass
    elif found.failure and found.alive is not True:
        said.append(f"failed: {found.failure}")
    elif found.alive is False:
        hint = "" if is_last else "; run the same command to go on"
        said.append(f"stopped: process {found.process['pid']} has ended{hint}")
    elif found.usual and found.age > max(SILENT_SECONDS, SILENT * found.usual, SILENT * (found.scoring or 0.0)):
        scores = f", scores take {found.scoring:.1f} s" if found.scoring else ""
        said.append(
            f"stuck or stopped? Nothing was written for {found.age:,.0f} s, and records come every {found.usual:.1f} s"
            f"{scores}"
        )
    if is_last:
        refused = f"; fix what stops them, then delete {training_files.STARTS}" if found.alive is False else ""
        said.append(
            f"start {found.starts} in a row from step {found.starts_step:,}, the last one that train.attempts="
            f"{found.attempts} allows without a new checkpoint{refused}"
        )
    return said
