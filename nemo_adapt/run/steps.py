"""Run one stage of a run, here or on ranks, unless its result exists already."""

import importlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.machine import cuda_environment, launcher, ranks
from nemo_adapt.run import artifact, store_broadcast
from nemo_adapt.run.changes import changed_settings
from nemo_adapt.run.inputs import HashOf, Inputs, input_hash
from nemo_adapt.run.manifest import MANIFEST, missing_file
from nemo_adapt.run.restart import ANEW, Restart, changed_since, made_otherwise, other_inputs, read_started
from nemo_adapt.run.run_folder import RunFolder, save_config

NOT_IN_FINGERPRINT = {
    "tokenizer": ("base", "given", "text", "guard", "parallel"),  # their contents decide, and are hashed as inputs
    "auxiliary": (
        "vectors",
        "dictionary",
        "source_text",
        "sample_documents",
    ),  # likewise; the last is one of decided_where
    "convert": ("processes",),
    "export": ("dir", "processes"),
    "evaluate": ("cache",),
    "train": (
        *("save_every", "save_minutes", "async_save", "keep", "keep_every", "keep_best", "score_every", "score_bytes"),
        *("attempts", "log_every", "trace", "wandb", "micro_batch", "recompute", "deterministic"),
        *("max_loss_rise", "max_wait_minutes"),
    ),
}
"""Settings that do not affect a stage's result, unless ``Step.decided_where`` names them: changes keep the result."""
FINGERPRINT = 16
"""Digits of a fingerprint in the name of a shared folder."""
SHARED = re.compile(rf"[0-9a-f]{{{FINGERPRINT}}}")
"""Matches such a name."""


@dataclass(frozen=True)
class Step:
    """One stage: the module whose ``build(config, inputs, out)`` runs it, its inputs, and its result's name."""

    name: str
    module: str
    reads: Callable[[Config, RunFolder], Inputs]
    result: str
    decided_by: tuple[str, ...] = ()
    """Sections or keys of the configuration that determine the result."""
    decided_where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Switch (a key that does not affect the result if it is off) -> keys that determine the result if it is on."""
    on_ranks: bool = False
    """Runs on all ranks of the layout."""
    uses_gpu: bool = False
    """Runs in one process that computes with a model."""
    restart: Restart = ANEW
    """What it does with what an earlier start has left."""
    check_inputs: Callable[[Inputs, Path], None] | None = None
    """Called with inputs and the stage's folder before the stage starts; raises ``UserError`` for damaged inputs."""
    precheck: str = ""
    """Module whose ``check(config, inputs)`` raises ``UserError`` before the first of several stages starts, for files
    that this one could not use."""

    @property
    def title(self) -> str:
        """Name of the step in the log."""
        return f"{self.name} ({self.result.rpartition('/')[2]})" if "/" in self.result else self.name


def run_step(config: Config, step: Step, made: Mapping[Path, str] | None = None) -> None:
    """Run one stage unless it is finished. Under a launcher, the first rank alone reads what decides that, the contents
    of all inputs, and does what is done once; the others learn from it what is left to do.

    ``made``: the folder of each stage's result -> the stage; ``UserError`` for an input among them that is unfinished.
    """
    if ranks.is_first():
        with store_broadcast.errors_told():
            _lead(config, step, made or {})
    else:
        _follow(config, step, **store_broadcast.told())


def _lead(config: Config, step: Step, made: Mapping[Path, str]) -> None:
    """Run one stage as the first rank or the only process, and tell the others.

    They join only once the lock of the stage's folder is held, and only if the stage is still to be built then: while
    this rank waits for it, another run may make a shared result.
    """
    run = RunFolder.of(config)
    inputs = step.reads(config, run)
    _check_earlier(step, inputs, made)
    stage = _stage(config, step, inputs)
    if _is_shared(config, step):
        place = _shared_place(config, step, stage.fingerprint)
        _say_left(step, stage, place)
        stage.out = run.share(step.result, place)
    answer = {"fingerprint": stage.fingerprint, "decided": stage.config}
    if stage.finished:
        say(f"[{step.title}] finished before, skipped")
        store_broadcast.tell({**answer, "joins": False})
        return
    if stage.missing:
        say(f"[{step.title}] is made again, as {stage.missing} is gone")
    _check_not_shared(step, stage)
    if step.check_inputs:
        step.check_inputs(inputs, stage.out)
    say(f"[{step.title}]")
    with artifact.claimed(stage, waits=bool(config.run.shared)) as is_open:
        joins = is_open and step.on_ranks
        if joins:
            store_broadcast.tell({**answer, "joins": True})
        if is_open:
            _build_and_finish(config, step, stage, inputs)
        else:
            say(f"[{step.title}] is there already")
    if not joins:
        store_broadcast.tell({**answer, "joins": False})


def _follow(config: Config, step: Step, fingerprint: str, decided: Mapping[str, Any], joins: bool) -> None:
    """As another rank: build this rank's part of the stage if there is one, and wait until its folder is there.

    ``UserError`` where the settings that ``decided`` the first rank's result are not this rank's.
    """
    own = json.loads(json.dumps(_deciding(config, step), default=str))
    if changed := changed_settings(decided, own):
        raise UserError(
            f"rank {os.environ['RANK']} on {platform.node()} has other settings than the first rank ("
            f"{', '.join(changed)}): start all ranks with the same command and recipe"
        )
    out = RunFolder.of(config)[step.result]
    if _is_shared(config, step):
        out = _shared_place(config, step, fingerprint)
    if step.on_ranks and joins:
        build_as_rank(config, step, out)
    store_broadcast.wait_for_folder(out, fingerprint)


def change_of(config: Config, step: Step, hash_of: HashOf) -> str:
    """Return why ``run_step`` would not skip a stage, given the run's folder as it is (``Stage.change``); empty if it
    would. ``UserError`` for a missing file."""
    return _stage(config, step, step.reads(config, RunFolder.of(config)), hash_of).change


def check_kept(config: Config, steps: Sequence[Step], later: Step) -> None:
    """Raise ``UserError`` if ``later``, a resumable stage that was started, could not go on: its settings have changed,
    or ``steps`` would replace one of its inputs. What is shared between runs is never replaced."""
    run = RunFolder.of(config)
    started = {} if config.run.shared else read_started(run[later.result])
    if not started:
        return
    changed = changed_since(started, _deciding(config, later), later.restart)
    if changed := changed + other_inputs(started["inputs"], later.reads(config, run), later.restart):
        raise UserError(made_otherwise(run[later.result], changed))
    check_not_replaced(config, steps, later)


def check_not_replaced(config: Config, steps: Sequence[Step], later: Step) -> None:
    """Raise ``UserError`` if ``steps`` would replace an input with which ``later``, a resumable stage, was started."""
    run = RunFolder.of(config)
    started = {} if config.run.shared else read_started(run[later.result])
    if not started or not steps:
        return
    # By an input's name, as in Stage.prepare: the run's folder may have been moved, or be named otherwise, since.
    fixed = [
        (path, digest)
        for key, paths in later.reads(config, run).items()
        if not key.startswith(later.restart.may_change)
        for path, digest in zip(paths, started["inputs"].get(key, {}).values(), strict=False)
    ]
    made: dict[Path, str] = {}  # what the steps will have made, whatever is there now

    def hash_of(path: Path) -> str:
        return made.get(path) or input_hash(path)

    for step in steps:
        stage = _stage(config, step, step.reads(config, run), hash_of)
        made[stage.out] = stage.fingerprint
        if any(path == stage.out and digest != stage.fingerprint for path, digest in fixed):
            raise UserError(
                f"{run[later.result]} was started with another {step.title} than now ({stage.change}): put that back "
                "to go on, choose another run.name, or delete the folder"
            )


def _stage(config: Config, step: Step, inputs: Inputs, hash_of: HashOf = input_hash) -> artifact.Stage:
    """Return the stage, with its result in the run's folder."""
    return artifact.Stage(
        step.name,
        RunFolder.of(config)[step.result],
        _deciding(config, step),
        inputs,
        step.restart,
        hash_of,
    )


def _is_shared(config: Config, step: Step) -> bool:
    """Return whether runs share the step's result: not where export.dir sets its folder."""
    run = RunFolder.of(config)
    return bool(config.run.shared) and run[step.result] == run.root / step.result


def _shared_place(config: Config, step: Step, fingerprint: str) -> Path:
    """Return the folder of a shared result. Its last part stays the same, because files are named after it."""
    return Path(config.run.shared) / fingerprint[:FINGERPRINT] / step.result


def _say_left(step: Step, stage: artifact.Stage, place: Path) -> None:
    """Say so where a run leaves a resumable stage that it had begun for another ``place``, as its settings or inputs
    have changed: without ``run.shared`` it would go on, or be refused."""
    begun = stage.out.resolve()
    if not step.restart.resumable or not stage.out.is_symlink() or begun == place.resolve():
        return
    if started := read_started(begun):
        changed = changed_settings(started["config"], stage.config) or ["its inputs"]
        say(f"[{step.title}] begins anew in {place}: {', '.join(changed)} changed; what was begun stays in {begun}")


def _check_not_shared(step: Step, stage: artifact.Stage) -> None:
    """Raise ``UserError`` for a resumable stage that would go on in a folder that runs share, outside ``run.shared``:
    it would change the result of the others."""
    place = stage.out
    fingerprint = place.resolve().parents[len(Path(step.result).parts) - 1].name  # as in _shared_place
    if step.restart.resumable and place.is_symlink() and SHARED.fullmatch(fingerprint):
        raise UserError(
            f"{place} is the result that runs share in {place.resolve()}: give run.shared as before, choose another "
            "run.name, or delete the link to begin anew"
        )


def build(config: Config, step: Step, stage: artifact.Stage, inputs: Inputs) -> Mapping[str, Any] | None:
    """Call ``build`` of the stage's module; return what it adds to the manifest, if anything."""
    from nemo_adapt import devices  # imports torch

    devices.limit_imports()
    facts: Mapping[str, Any] | None = importlib.import_module(step.module).build(config, inputs, stage.workplace)
    return facts


def build_as_rank(config: Config, step: Step, out: Path | None = None) -> None:
    """Build this rank's part of the stage, whose folder ``out`` (by default the run's) the first process prepares."""
    run = RunFolder.of(config)
    out = out or (run[step.result].resolve() if config.run.shared else run[step.result])
    build(config, step, artifact.Stage(step.name, out, {}, {}, step.restart), step.reads(config, run))


def _build_and_finish(config: Config, step: Step, stage: artifact.Stage, inputs: Inputs) -> None:
    """Build the stage and finish its folder."""

    def fill(workplace: Path) -> Mapping[str, Any] | None:
        save_config(RunFolder.of(config), config)
        if step.on_ranks and not ranks.already_started():
            _launch(config, step)
            return None
        return build(config, step, stage, inputs)

    seconds = artifact.build(stage, fill)
    say(f"[{step.title}] done in {seconds:.1f} s")


def _launch(config: Config, step: Step) -> None:
    """Run a stage on new ranks. They read the configuration from a file of their own: another command may replace the
    one in the run's folder before they do."""
    cuda_environment.set_up(config.parallel, config.train.deterministic)  # ranks begin with this process's variables
    with tempfile.TemporaryDirectory(prefix="nemo_adapt_") as folder:
        own = Path(folder) / "config.yaml"
        own.write_text(recipes.to_yaml(config), encoding="utf-8")
        launcher.launch(config.parallel.ranks, ["rank", step.name, str(own)])


def _deciding(config: Config, step: Step) -> dict[str, Any]:
    """Return the part of the configuration that determines a stage's result."""
    found = recipes.section(config, *step.decided_by)
    for section, keys in NOT_IN_FINGERPRINT.items():
        for key in keys if section in found else ():
            found[section].pop(key)
    for switch, keys in step.decided_where.items():
        if recipes.section(config, switch)[switch]:
            found[switch] = recipes.section(config, *keys)
    return found


def _check_earlier(step: Step, inputs: Inputs, made: Mapping[Path, str]) -> None:
    """Raise ``UserError`` when an input is another stage's result that is not finished, or of which a file is gone (a
    training that goes on does not read all of them). Others are the user's, who may keep them in the run's folder."""
    for path in (path for paths in inputs.values() for path in paths if made.get(path, step.name) != step.name):
        if not (path / MANIFEST).is_file():
            raise UserError(f"{path} is not finished: run the {made[path]} stage before {step.name}")
        if not step.restart.resumable and (gone := missing_file(path)):
            raise UserError(f"{gone} is gone: run the {made[path]} stage before {step.name}, which makes it again")
