"""States of a run's stages, read from their folders."""

from collections.abc import Mapping
from dataclasses import dataclass

from nemo_adapt import pipeline
from nemo_adapt.config import Config
from nemo_adapt.launch.slurm import State
from nemo_adapt.machine.locks import holder, lock_of
from nemo_adapt.run import artifact
from nemo_adapt.run.manifest import MANIFEST
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.run.steps import Step
from nemo_adapt.status.jobs import NO_JOBS, is_running
from nemo_adapt.status.run_files import last_written, read, written
from nemo_adapt.training_files import SUMMARY

FINISHED, MAKING, NOT_YET, DAMAGED = "finished", "being made", "not yet", "damaged"
INTERRUPTED = "interrupted"
"""No process makes it any more."""


@dataclass(frozen=True)
class StageState:
    """The state of one stage."""

    stage: str
    state: str
    seconds: float | None = None
    """Time that it took, if it is finished."""
    at: float | None = None
    """Time at which it was finished or last written to, in seconds since 1970."""


def stages(config: Config, run: RunFolder, jobs: Mapping[str, State] = NO_JOBS) -> list[StageState]:
    """Return the stages that ``nemo-adapt run`` takes, in order, and others that have been run by themselves.

    ``jobs``: states of the run's Slurm jobs by id, as far as they are known.
    """
    taken = {step.result for step in pipeline.run_steps(config)}
    found = {step.result: stage_state(step, run, jobs) for step in pipeline.steps_of(config)}
    return [state for result, state in found.items() if result in taken or state.state != NOT_YET]


def stage_state(step: Step, run: RunFolder, jobs: Mapping[str, State]) -> StageState:
    """Return the state of a stage according to its manifest."""
    stage = artifact.Stage(step.name, run[step.result], {}, {}, step.restart)
    manifest = stage.out / MANIFEST
    if stage.workplace.is_dir() and (stage.workplace != stage.out or not manifest.is_file()):
        state = MAKING if _is_made(stage, jobs) else INTERRUPTED
        return StageState(step.title, state, at=last_written(stage.workplace))
    if not manifest.is_file():
        return StageState(step.title, NOT_YET)
    content = read(manifest)
    seconds = content.get("seconds")
    if seconds is not None:  # of the last start alone; a training's summary has those of all
        seconds = max(seconds, read(stage.out / SUMMARY).get("seconds", 0.0))
    return StageState(step.title, FINISHED if content else DAMAGED, seconds, written(manifest))


def _is_made(stage: artifact.Stage, jobs: Mapping[str, State]) -> bool:
    """Whether a process makes an unfinished stage, as far as this host and Slurm know: a job that was killed leaves its
    lock."""
    lock = lock_of(stage.out)
    maker = holder(lock)
    return maker is not None and is_running(maker, written(lock), jobs) is not False
