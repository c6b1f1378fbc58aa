"""``nemo-adapt study-job ROOT JOB``: a job of a launched study, run by its scripts; ``... cell NAME``: one cell."""

import os
import traceback
from collections.abc import Callable
from pathlib import Path

import nemo_adapt
from nemo_adapt import pipeline
from nemo_adapt.config import recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import ERROR, UserError
from nemo_adapt.launch.chain import chain
from nemo_adapt.launch.paths import LaunchPaths
from nemo_adapt.study.array import config_of, read_launched
from nemo_adapt.study.command import unfinished_line, write_report
from nemo_adapt.study.precheck import first_seeds
from nemo_adapt.study.work import Job, run_cells, unfinished


def main(words: list[str]) -> None:
    """Run the command. Raises ``UserError`` when cells have failed."""
    root, name, *cell = words
    jobs: dict[str, Callable[..., None]] = {"prepare": prepare, "cells": run_share, "report": report, "cell": run_cell}
    jobs[name](Path(root), *cell)


def prepare(root: Path) -> None:
    """Run the stages before the first one on ranks, for each combination of values.

    Failures are only printed, as the cells affected fail with the same error; ``UserError`` if every combination fails.
    """
    _, jobs = read_launched(root)
    wanted = first_seeds(jobs)
    left = unfinished(wanted)
    failed = [job for job in wanted if job.cell.name in left and not _is_prepared(job)]
    if len(failed) == len(wanted):
        raise UserError("no cell of the study can be prepared (see above)")


def _is_prepared(job: Job) -> bool:
    say(f"cell {job.cell.name}")
    try:
        pipeline.run_stages(job.config, chain(pipeline.run_steps(job.config))[0].stages)
    except UserError as error:
        say(f"{ERROR}{error}")
        return False
    except Exception:  # the other cells may work
        traceback.print_exc()
        return False
    return True


def run_share(root: Path) -> None:
    """Run this array task's share of the cells; ``UserError`` when some have failed."""
    _pin_code()
    paths = LaunchPaths(root)
    paths.tell(paths.started)
    config, jobs = read_launched(root)
    task, tasks = int(os.environ["SLURM_ARRAY_TASK_ID"]), config.study.array
    mine = jobs[task::tasks]
    say(f"study {config.run.name}: {len(mine)} of {len(jobs)} cells in task {task} of {tasks}")
    failed = run_cells(mine, config.study.processes)
    if failed:
        raise UserError(unfinished_line(failed, f"{len(failed)} of {len(mine)} cells failed"))


def run_cell(root: Path, name: str) -> None:
    """Run one cell."""
    pipeline.run_all(recipes.read(LaunchPaths(root).folder / config_of(name)))


def report(root: Path) -> None:
    """Write the report on the cells that are done; ``UserError`` that names those that are not."""
    config, jobs = read_launched(root)
    missing = write_report(jobs, config)
    if missing:
        failed_first = sorted(missing, key=lambda job: not job.why)
        raise UserError(unfinished_line(failed_first, f"{len(missing)} of {len(jobs)} cells are not done"))


def _pin_code() -> None:
    """Make Python subprocesses import the code that the study was launched with, whatever is installed."""
    before = os.environ.get("PYTHONPATH", "")
    code = str(Path(nemo_adapt.__file__).parent.parent)
    os.environ["PYTHONPATH"] = f"{code}{os.pathsep}{before}" if before else code
    os.environ["PYTHONSAFEPATH"] = "1"  # keeps the working directory off sys.path
