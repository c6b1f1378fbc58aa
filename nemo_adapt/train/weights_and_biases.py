"""The run of Weights & Biases that gets a training's metrics, if ``train.wandb`` names a project."""

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.machine import ranks

SCORES, SCORES_STEP = "held_out/", "held_out_step"
"""Prefix of held-out scores, also in TensorBoard, and their own axis of steps here. What is logged for an earlier step
than the last one is dropped, as scores would be that the next start makes up for."""


class WandbRun:
    """Training goes on without it, and saves, if the connection is lost: TERM to all processes of a rank, as Slurm
    sends it, also ends the process that would get the metrics."""

    def __init__(self, project: str, config: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> None:
        self.project, self.say = project, say
        self._run = _start(project, config, folder) if project else None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log a step's metrics."""
        self._tell(lambda run: run.log(values, step=step))

    def log_scores(self, values: Mapping[str, float], step: int) -> None:
        """Log held-out scores, whose names begin with ``SCORES``."""
        self._tell(lambda run: run.log({**values, SCORES_STEP: step}))

    def finish(self, code: int) -> None:
        """End the run with the training's exit code."""
        if code == ranks.MORE_TO_DO:  # with it the run counts as preempted, not as failed
            self._tell(lambda run: run.mark_preempting())
        self._tell(lambda run: run.finish(exit_code=code))

    def _tell(self, tell: Callable[[Any], object]) -> None:
        if not self._run:
            return
        try:
            tell(self._run)
        except Exception as error:
            self._run = None
            self.say(f"no more metrics for train.wandb={self.project} until the next start: {error!r}")


def _start(project: str, config: Mapping[str, Any], folder: Path) -> Any:
    """Start a run of Weights & Biases, or continue it when training resumes.

    ``UserError`` if it cannot: without a login or a network, or with an odd setting of its own.
    """
    import wandb  # type: ignore[import-not-found,unused-ignore]

    path = folder / "wandb.json"
    number = json.loads(path.read_text(encoding="utf-8"))["id"] if path.is_file() else secrets.token_hex(4)
    write_json(path, {"id": number})
    words = {"project": project, "name": folder.parent.name, "config": dict(config)}
    try:
        run = wandb.init(**words, id=number, resume="allow", dir=str(folder))
        run.define_metric(f"{SCORES}*", step_metric=SCORES_STEP)
        return run
    except (wandb.Error, ValueError) as error:  # its settings are checked by pydantic
        said = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"train.wandb={project}: {said}. Log in (wandb login), record without a network (WANDB_MODE=offline, "
            "later wandb sync), or leave train.wandb out"
        ) from None
