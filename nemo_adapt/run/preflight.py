"""What is known to fail before any of a run's steps starts, here or as jobs on a cluster; and before one of them."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from nemo_adapt.checkpoint.folders import CHECKPOINTS, complete
from nemo_adapt.checkpoint.integrity import damage, repair_advice
from nemo_adapt.checkpoint.scores import check_which
from nemo_adapt.config import Config, TrainConfig
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.config.layout import check_batch, dp_of
from nemo_adapt.console.progress import say
from nemo_adapt.corpora.mixture import check_target, trained_and_held_out
from nemo_adapt.errors import UserError
from nemo_adapt.machine import gpus, ranks
from nemo_adapt.run.artifact import check_place
from nemo_adapt.run.inputs import Inputs, input_hash
from nemo_adapt.run.manifest import read_manifest
from nemo_adapt.run.run_folder import RunFolder, check_recipe
from nemo_adapt.run.steps import Step, change_of, check_kept, check_not_replaced
from nemo_adapt.tokenizer.settings import check as check_tokenizer


def check(config: Config, steps: Sequence[Step], of_run: Sequence[Step]) -> None:
    """Raise ``UserError`` for what is known to fail before any of ``steps`` starts. ``of_run``: all of the run."""
    check_steps(config, steps)
    check_export(config, steps)
    precheck(config, steps)
    if any(step.name == "train" for step in steps):
        require_wandb(config.train)
    if any(step.on_ranks for step in steps):
        _check_ranks(config, steps)
    check_recipe(RunFolder.of(config), config)
    check_begun(config, steps, of_run)


def check_steps(config: Config, steps: Sequence[Step]) -> None:
    """Before any of ``steps`` runs, here or elsewhere, raise ``UserError`` for what is already known to fail."""
    check_numbers(config)
    if any(step.name == "tokenizer" for step in steps):
        check_tokenizer(config)
    for step in steps:
        step.reads(config, RunFolder.of(config))  # a file missing for the last stage is reported before the first
    check_end(config, {step.name for step in steps})
    if any(step.on_ranks for step in steps):
        from nemo_adapt.run import checks  # imports scipy, for the strategies

        checks.check(config)
    if len(steps) > 1 and any(step.name == "convert" for step in steps):
        from nemo_adapt.checkpoint.weight_checks import check_weights

        given = config.model.checkpoint
        check_weights(Path(config.model.path), Path(given) if given else None)


def check_end(config: Config, stages: set[str]) -> None:
    """Raise ``UserError`` if export or evaluation needs something that the earlier stages do not provide."""
    which, texts, target = config.export.checkpoint, config.evaluate.texts, config.evaluate.target
    if "export" in stages:
        check_which(which)
    if {"train", "export"} <= stages and which == "best" and not config.train.keep_best:
        raise UserError("export.checkpoint=best needs train.keep_best=true: or no checkpoint is chosen while training")
    if "evaluate" in stages:
        if not texts:
            raise UserError("evaluate.texts is empty: give a held-out text, evaluate.texts.LANG=FILE")
        if target:
            check_target(target, texts)


def check_export(config: Config, steps: Sequence[Step]) -> None:
    """Raise ``UserError`` if ``steps`` would make a model that could not be written where it belongs. For a process
    that sees the folders as the export does: where a run is launched, its jobs may be in a container."""
    if any(step.name == "export" for step in steps):
        check_place("export", RunFolder.of(config)["export"])


def precheck(config: Config, steps: Sequence[Step]) -> None:
    """Raise ``UserError`` for files that a later one of ``steps`` could not use, though the first could begin; print a
    line for a text that is both trained on and held out."""
    for step in steps[1:]:
        if step.precheck:
            importlib.import_module(step.precheck).check(config, step.reads(config, RunFolder.of(config)))
    if any(step.name == "evaluate" for step in steps[1:]):
        for line in trained_and_held_out(config):
            say(line)


def check_begun(config: Config, steps: Sequence[Step], of_run: Sequence[Step]) -> None:
    """Raise ``UserError`` if ``steps`` would replace results with which one of them, or another one of ``of_run``, was
    begun: it could not go on."""
    for number, step in enumerate(steps):
        if step.restart.resumable:
            check_kept(config, steps[:number], step)
    results = {step.result for step in steps}
    for number, other in enumerate(of_run):
        if other.restart.resumable and other.result not in results:
            check_not_replaced(config, [each for each in of_run[:number] if each.result in results], other)


def require_wandb(train: TrainConfig) -> None:
    """Raise ``UserError`` for a ``train.wandb`` without the package. For the process that trains, or starts the ranks
    that do: where a run is launched, another environment may be active."""
    if train.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError(f"train.wandb={train.wandb} needs the package wandb: pip install wandb")


def check_converted(inputs: Inputs, out: Path) -> None:
    """Raise ``UserError`` where the files of the converted checkpoint are not as written: presence, sizes, and contents
    of the small ones. Not checked if ``out`` has a checkpoint, from which a training continues instead."""
    (folder,) = inputs["checkpoint"]
    wrong = "" if complete(out / CHECKPOINTS) else damage(folder)
    if wrong:
        raise UserError(f"{folder} is damaged ({wrong}): {repair_advice(folder)}")


def check_trained(inputs: Inputs, out: Path) -> None:
    """Raise ``UserError`` where the training had another tokenizer than the one to export with: its rows would belong
    to other tokens."""
    (train,), (tokenizer,) = inputs["train"], inputs["tokenizer"]
    used = read_manifest(train)["inputs"]["tokenizer"]
    if [input_hash(tokenizer)] != list(used.values()):
        raise UserError(
            f"{train} was trained with another tokenizer than {tokenizer} has now: make the tokenizer again "
            "with the settings and text that it had, or train again under another run.name"
        )


def _check_ranks(config: Config, steps: Sequence[Step]) -> None:
    """Raise ``UserError`` for a number of started ranks that does not fit the layout, or for more ranks to start than
    this machine has GPUs, unless all stages on ranks are finished."""
    try:
        if ranks.already_started():
            check_batch(config.train, config.parallel, dp_of(config.parallel, int(os.environ["WORLD_SIZE"])))
        elif gpus.may_exist():
            from nemo_adapt import devices

            gpus.check_enough(config.parallel.ranks, devices.gpu_count())
    except UserError:
        if not all(_is_finished(config, step) for step in steps if step.on_ranks):
            raise


def _is_finished(config: Config, step: Step) -> bool:
    try:
        return not change_of(config, step, input_hash)
    except UserError:  # an input does not exist yet
        return False
