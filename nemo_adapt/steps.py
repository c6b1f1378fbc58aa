"""Running one stage of a run: here or on ranks, unless its result is there already."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt import artifact, ranks, recipes
from nemo_adapt.artifact import HashOf, Inputs
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.run_folder import RunFolder

NOT_DECIDING = {
    "tokenizer": ("base", "text", "guard", "parallel"),  # what lies there decides, and is hashed as an input
    "auxiliary": ("vectors", "dictionary", "source_text"),  # likewise
    "convert": ("processes",),
    "export": ("dir", "processes"),
    "evaluate": ("cache",),
    "train": (
        *("save_every", "save_minutes", "async_save", "keep", "keep_best", "score_every", "score_bytes", "attempts"),
        *("log_every", "wandb", "micro_batch", "recompute"),
    ),
}
"""Settings that a finished or interrupted stage does not depend on, unless ``Step.decided_where`` names them."""
FINGERPRINT = 16
"""Digits of a fingerprint that name a shared folder."""
MADE_BY = {"checkpoint": "convert", "adapted": "export"}
"""Inputs that are results of a stage with another name; those of a stage with several begin with its name and a dot."""


@dataclass(frozen=True)
class Step:
    """One stage: the module whose ``build(config, inputs, out)`` does it, what it reads, and its result's name."""

    name: str
    module: str
    reads: Callable[[Config, RunFolder], Inputs]
    result: str
    decided_by: tuple[str, ...] = ()
    """Sections or keys of the configuration that decide the result."""
    decided_where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys that also decide it where a switch, a key that does not decide by itself, is on."""
    on_ranks: bool = False
    """Runs on all ranks of the layout."""
    uses_gpu: bool = False
    """One process that computes with a model."""
    resumable: bool = False
    """Builds in place and goes on where it was interrupted."""
    fenced: bool = False
    """Writes nothing more once a later start of its Slurm job has taken the folder."""
    grows: tuple[str, ...] = ()
    """Settings with which a resumable stage may go on although they have changed."""
    checks: Callable[[Inputs, Path], None] | None = None
    """Raises ``UserError`` for inputs that are damaged, before anything of the stage is started (given its folder)."""
    keeps: bool = False
    """What an interrupted stage has written beside its result is kept, if nothing has changed since."""

    @property
    def title(self) -> str:
        """What the log calls it."""
        return f"{self.name} ({self.result.rpartition('/')[2]})" if "/" in self.result else self.name


def run_step(config: Config, step: Step) -> None:
    """Run one stage unless it is finished. Of ranks that a launcher started, the first does what is done once."""
    run = RunFolder.of(config)
    inputs = step.reads(config, run)
    _check_earlier(step, inputs, run)
    stage = _stage(config, step, inputs)
    first = ranks.is_first()
    if config.run.shared and stage.out == run.root / step.result:  # and not where export.dir wants it
        stage.out = _shared_place(config, step, stage)
        if first:
            run.share(step.result, stage.out)
    if stage.finished:
        if first:
            say(f"[{step.title}] finished before, skipped")
        return
    if step.checks:
        step.checks(inputs, stage.out)
    if first:
        _do(config, step, stage, inputs)
        return
    if step.on_ranks:
        build(config, step, stage, inputs)
    ranks.wait_for_first(stage.out, stage.fingerprint)


def change_of(config: Config, step: Step, hash_of: HashOf) -> str:
    """Why ``run_step`` would not skip a stage, by what lies in the run's folder now (``Stage.change``); empty where it
    would. ``UserError`` for a file that is missing."""
    return _stage(config, step, step.reads(config, RunFolder.of(config)), hash_of).change


def _stage(config: Config, step: Step, inputs: Inputs, hash_of: HashOf = artifact.input_hash) -> artifact.Stage:
    """The stage with its result in the run's folder."""
    return artifact.Stage(
        step.name,
        RunFolder.of(config)[step.result],
        _deciding(config, step),
        inputs,
        step.resumable,
        step.grows,
        step.keeps,
        step.fenced,
        hash_of,
    )


def _shared_place(config: Config, step: Step, stage: artifact.Stage) -> Path:
    """Where runs that share their stages keep this one's result; its own last name stays, files are called after it."""
    return Path(config.run.shared) / stage.fingerprint[:FINGERPRINT] / step.result


def build(config: Config, step: Step, stage: artifact.Stage, inputs: Inputs) -> None:
    """Call the stage's function."""
    from nemo_adapt import devices  # imports torch

    devices.limit_imports()
    importlib.import_module(step.module).build(config, inputs, stage.workplace)


def build_as_rank(config: Config, step: Step) -> None:
    """What each rank that ``run_step`` started does: its part, in the workplace made ready for it."""
    run = RunFolder.of(config)
    out = run[step.result].resolve() if config.run.shared else run[step.result]
    build(config, step, artifact.Stage(step.name, out, {}, {}, step.resumable), step.reads(config, run))


def _do(config: Config, step: Step, stage: artifact.Stage, inputs: Inputs) -> None:
    """Build the stage and finish its folder."""

    def body(workplace: Path) -> None:
        if step.on_ranks and not ranks.already_started():
            arguments = ["rank", step.name, str(RunFolder.of(config).config)]
            ranks.launch(config.parallel.ranks, arguments)
        else:
            build(config, step, stage, inputs)

    say(f"[{step.title}]")
    seconds = artifact.run(stage, body, waits=bool(config.run.shared))
    say(f"[{step.title}] done in {seconds:.1f} s")


def _deciding(config: Config, step: Step) -> dict[str, Any]:
    """The part of the configuration that decides a stage's result."""
    found = recipes.section(config, *step.decided_by)
    for section, keys in NOT_DECIDING.items():
        for key in keys if section in found else ():
            found[section].pop(key)
    for switch, keys in step.decided_where.items():
        if recipes.section(config, switch)[switch]:
            found[switch] = recipes.section(config, *keys)
    return found


def _check_earlier(step: Step, inputs: Inputs, run: RunFolder) -> None:
    """``UserError`` when an input is another stage's result that is not there yet."""
    for key, paths in inputs.items():
        for path in paths:
            ours = path.is_relative_to(run.root) or path == run["export"]
            if ours and not (path / artifact.MANIFEST).is_file():
                maker = MADE_BY.get(key, key.split(".")[0])
                raise UserError(f"{path} is not finished: run the {maker} stage before {step.name}")
