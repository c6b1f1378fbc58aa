"""``nemo-adapt status RUN``: which stages of a run are finished, and the progress of its training.

    nemo-adapt status runs/NAME [watch=SECONDS | --watch] [json=FILE]

Reads the run's folder, also while the run is in progress, and asks Slurm if the run was launched there. ``json=-``
prints JSON instead of the tables; ``watch`` repeats them until the run has ended or was interrupted, or nobody reads
the output.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nemo_adapt.config import recipes
from nemo_adapt.console.output import is_read
from nemo_adapt.console.printed import ago, print_table, span
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.status.cells import BEGUN, FAILED, CellState, cell_states, counted, is_study
from nemo_adapt.status.jobs import JobState, jobs, relevant_log, states
from nemo_adapt.status.stages import FINISHED, INTERRUPTED, MAKING, StageState, stages
from nemo_adapt.status.training import Training, training

WATCH = "watch=10"
"""The setting that ``--watch`` is short for."""
ALIVE = {True: "alive", False: "has ended", None: "cannot be asked from this host"}


@dataclass
class StatusConfig:
    json: str = ""
    """File to write the report to as JSON; ``-`` prints it instead of the tables."""
    watch: float = 0.0
    """Seconds between repetitions; 0: show the tables once."""


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a folder that is not a run."""
    words = [WATCH if word == "--watch" else word for word in words]
    folders = [word for word in words if "=" not in word]
    if options := [word for word in folders if word.startswith("-")]:
        raise UserError(f"status has no option {options[0]}, only --watch and key=value words")
    if len(folders) != 1:
        raise UserError(f"status takes the folder of one run, not {len(folders)}: nemo-adapt status runs/NAME")
    settings = recipes.parse(StatusConfig, [word for word in words if "=" in word])
    if not 0 <= settings.watch < math.inf:
        raise UserError(f"watch={settings.watch} is not a number of seconds above 0")
    root, out = Path(folders[0]), Path(settings.json)
    if not RunFolder(root).config.is_file():
        raise UserError(f"{root} is not a run's folder (no {RunFolder(root).config.name})")
    if settings.json and not out.parent.is_dir():
        raise UserError(f"json={settings.json}: the folder {out.parent} does not exist")
    while True:
        report = look(root)
        if settings.json == "-":
            print(json.dumps(report.plain(), indent=1, ensure_ascii=False))
        else:
            show(report, clear=settings.watch > 0 and sys.stdout.isatty())
        is_wanted = is_read()
        if settings.json not in ("", "-"):
            write_json(out, report.plain())
            is_wanted = True
        if not settings.watch or not report.is_under_way or not is_wanted:
            return
        time.sleep(settings.watch)


@dataclass
class Report:
    """The state of a run at one moment."""

    run: str
    stages: list[StageState]
    training: Training | None
    jobs: list[JobState]
    now: float
    cells: list[CellState] = field(default_factory=list)
    """Only for a study, which has no stages itself."""

    @property
    def is_under_way(self) -> bool:
        """Whether the run goes on: it has jobs that have not ended, or, if it was not launched, open stages, of which
        the first was not interrupted, or cells that have not ended."""
        if self.jobs:
            return any(job.is_live for job in self.jobs)
        states = [stage.state for stage in self.stages] + [cell.state for cell in self.cells]
        left = [state for state in states if state not in (FINISHED, FAILED)]
        is_made = MAKING in left or bool(self.training and self.training.alive)
        return bool(left) and (is_made or left[0] != INTERRUPTED)

    def plain(self) -> dict[str, Any]:
        """Return the report as values for JSON."""
        trained = asdict(self.training) if self.training else None
        parts = {"stages": list(map(asdict, self.stages)), "jobs": list(map(asdict, self.jobs)), "training": trained}
        return {"run": self.run, **parts, **({"cells": list(map(asdict, self.cells))} if self.cells else {})}


def look(root: Path) -> Report:
    """Read the state of the run in a folder."""
    config = recipes.read(RunFolder(root).config)
    if is_study(root, config):
        return Report(str(root), [], None, jobs(root, states(root)), time.time(), cell_states(root, config))
    run, now, known = RunFolder(root, config.export.dir), time.time(), states(root)
    return Report(str(root), stages(config, run, known), training(config, run, now, known), jobs(root, known), now)


def show(report: Report, clear: bool = False) -> None:
    """Print the tables, the warnings below them, and the end of the most relevant log."""
    if clear:
        print("\x1b[H\x1b[2J", end="")
    if report.cells:
        say(f"{counted(report.cells)}\n")
        shown = [state for state in report.cells if state.state in (BEGUN, FAILED)]
        if shown:
            print_table(["cell", "", "written", ""], [cell_row(state, report.now) for state in shown])
    else:
        print_table(["stage", "", "took", ""], [stage_row(state, report.now) for state in report.stages])
    if report.jobs:
        print()
        print_table(["job", "", "ran", "why"], [job_row(job) for job in report.jobs])
    if report.training:
        print()
        print_table(["training", ""], [(name, fact) for name, fact in facts(report.training) if fact])
        for warning in report.training.warnings:
            say(f"\nwarning: {warning}")
    log, lines = relevant_log(report.jobs)
    if log:
        say("\n".join([f"\n{log}", *(f"  {line}" for line in lines)]))


def job_row(job: JobState) -> tuple[str, ...]:
    """Return a table row: name and id, state, run time of the limit, and the reason."""
    ran = f"{job.run_time} of {job.time_limit}" if job.run_time not in ("", "00:00:00") else ""
    again = f"started {job.restarts + 1} times" if job.restarts else ""
    on = f"on {job.nodes}" if job.nodes and job.is_live else ""
    return f"{job.name} ({job.id})", job.state, ran, ", ".join(part for part in (job.reason, on, again) if part)


def stage_row(state: StageState, now: float) -> tuple[str, ...]:
    """Return a table row: name, state, seconds it took, and when it was finished or last written."""
    took = "" if state.seconds is None else f"{state.seconds:,.1f} s"
    if state.at is None:
        return state.stage, state.state, took, ""
    if state.seconds is None:
        return state.stage, state.state, took, f"last written {ago(now - state.at)}"
    return state.stage, state.state, took, datetime.fromtimestamp(state.at).strftime("%Y-%m-%d %H:%M")


def cell_row(state: CellState, now: float) -> tuple[str, ...]:
    """Return a table row: name, state, time since the last write, and the last line of the log or the error."""
    return state.cell, state.state, "" if state.at is None else ago(now - state.at), state.said


def facts(it: Training) -> Iterator[tuple[str, str]]:
    """Yield the facts about a training as (name, value); the value is empty where it is unknown."""
    record = it.record
    of = f"of {it.steps:,} ({it.step / it.steps:.1%})" if it.steps else f"of an unknown number: {it.steps_unknown}"
    yield "step", f"{it.step:,} {of}"
    budget = f" of {it.tokens:,}" if it.tokens else ""
    yield "tokens", f"{record['tokens']:,}{budget}" if "tokens" in record else ""
    several = f" of {it.phases}" if it.phases else ""
    yield "phase", f"{it.phase}{several}{it.trains and ', trains '}{it.trains}" if it.phase else ""
    yield "loss", joined(record, {"loss": "{:.3f} nats/token", "bits_per_byte": "{:.3f} bits/byte"})
    speeds = {"tokens_per_second": "{:,.0f} tokens/s", "bytes_per_second": "{:,.0f} bytes/s", "mfu": "MFU {:.1%}"}
    yield "speed", joined(record, speeds)
    yield "memory", joined(record, {"memory_mib": "{:,.0f} MiB"})
    yield "time left", f"{span(it.seconds_left)} at this speed" if it.seconds_left is not None else ""
    yield "held-out bits/byte", held_out(it.held_out_first, it.held_out_last)
    yield "newest checkpoint", f"{it.checkpoint}, {ago(it.checkpoint_age)}" if it.checkpoint_age is not None else "none"
    yield "best checkpoint", joined(it.best, {"name": "{}", "bits_per_byte": "{:.4f} bits/byte"})
    if not it.finished:
        who = joined(it.process, {"pid": "{}", "host": "on {}", "job": "job {}", "ranks": "{} ranks"})
        yield "process", f"{who}: {ALIVE[it.alive]}" if who else ""
        limit = f" of {it.attempts} without a new checkpoint" if it.attempts else ""
        yield "starts", f"{it.starts}{limit}, from step {it.starts_step:,}" if it.starts else ""
        usual = f", a record every {it.usual:.1f} s" if it.usual else ""
        scores = f", a score takes {it.scoring:.1f} s" if it.scoring else ""
        yield "last written", ago(it.age) + usual + scores


def held_out(first: dict[str, Any], last: dict[str, Any]) -> str:
    """Return the first and the last held-out score of each language, in bits per byte."""
    before, now = first.get("bits_per_byte", {}), last.get("bits_per_byte", {})
    pairs = [(name, before.get(name), value) for name, value in now.items() if value is not None]
    if not pairs:
        return ""
    if first["step"] == last["step"]:
        return f"{', '.join(f'{name} {value:.4f}' for name, _, value in pairs)} (step {last['step']:,})"
    changes = [f"{name} {'-' if was is None else f'{was:.4f}'} -> {value:.4f}" for name, was, value in pairs]
    return f"{', '.join(changes)} (steps {first['step']:,} and {last['step']:,})"


def joined(record: dict[str, Any], formats: dict[str, str]) -> str:
    """Format the values that a record has, and join them with commas."""
    return ", ".join(
        shown.format(record[name]) for name, shown in formats.items() if record.get(name) not in (None, "")
    )
