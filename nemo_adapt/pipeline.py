"""The order of the stages. The only file that knows it."""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt import artifact, ranks, recipes
from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.registry import nearest
from nemo_adapt.text import expand

NOT_DECIDING = {"train": ("save_every", "keep", "log_every", "micro_batch")}
"""Settings that a finished or interrupted stage does not depend on."""


@dataclass(frozen=True)
class Step:
    """One stage of one run: the module whose ``build(config, inputs, out)`` does it, what it reads and writes."""

    name: str
    module: str
    out: Path
    reads: Callable[[], Inputs]
    decided_by: tuple[str, ...] = ()
    """Sections or keys of the configuration that decide the result."""
    on_ranks: bool = False
    """Runs on all ranks of the layout."""
    resumable: bool = False
    """Builds in place and goes on where it was interrupted."""


def road(config: Config) -> list[Step]:
    """The stages of a run, in order."""
    run = run_folder(config)
    tokenizer, converted, resized = run / "tokenizer", run / "convert", run / "resize"
    target, replay, trained = run / "data" / "target", run / "data" / "replay", run / "train"
    exported = Path(config.export.dir) if config.export.dir else run / "export"
    base = {"model": [Path(config.model.path)], "tokenizer": [tokenizer]}
    sets = {"data.target": [target], **({"data.replay": [replay]} if config.data.replay else {})}
    rows = ("resize.input", "resize.output", "resize.seed")

    def text(key: str, patterns: list[str]) -> Callable[[], Inputs]:
        return lambda: {"tokenizer": [tokenizer], "text": expand(_given(key, patterns), key)}

    steps = [
        Step("tokenizer", "nemo_adapt.tokenizer.stage", tokenizer, lambda: _tokenizer_reads(config),
             ("tokenizer.method", "tokenizer.new_tokens", "tokenizer.guard_share", "tokenizer.reference")),
        Step("data", "nemo_adapt.data.stage", target, text("data.target", config.data.target)),
        Step("data", "nemo_adapt.data.stage", replay, text("data.replay", config.data.replay)),
        Step("convert", "nemo_adapt.convert", converted, lambda: {"model": base["model"]}, ("convert",)),
        Step("resize", "nemo_adapt.resize.stage", resized, lambda: {**base, "checkpoint": [converted]},
             (*rows, "train.precision", "parallel"), on_ranks=True),
        Step("train", "nemo_adapt.train.stage", trained, lambda: {**base, "checkpoint": [converted], **sets},
             (*rows, "train", "data.replay_share"), on_ranks=True, resumable=True),
        Step("export", "nemo_adapt.export", exported, lambda: {**base, "train": [trained]}, ("export.shard_mib",)),
        Step("evaluate", "nemo_adapt.evaluate.stage", run / "evaluate", lambda: _evaluate_reads(config, run, exported),
             ("evaluate", "train.seq_length")),
    ]  # fmt: skip
    return [step for step in steps if step.out != replay or config.data.replay]


def names() -> list[str]:
    """Names of the stages, in order."""
    return ["tokenizer", "data", "convert", "resize", "train", "export", "evaluate"]


def run_folder(config: Config) -> Path:
    """The folder of a run."""
    return Path(config.run.dir) / config.run.name


def run_all(config: Config) -> None:
    """All stages in order; finished ones are skipped. ``resize`` is left to ``train``, which does it in memory."""
    steps = [step for step in road(config) if step.name != "resize"]
    for step in steps:
        step.reads()  # a file that is missing for the last stage is said before the first
    _check(config)
    claim(config)
    for step in steps:
        run_step(config, step)


def run_stage(config: Config, name: str) -> None:
    """One stage by its name (for ``data``, all sets)."""
    steps = [step for step in road(config) if step.name == name]
    for step in steps:
        step.reads()
        if step.on_ranks:
            _check(config)
    claim(config)
    for step in steps:
        run_step(config, step)


def claim(config: Config) -> None:
    """Make the run folder this configuration's, and save it there; ``UserError`` if another recipe made it."""
    folder = run_folder(config)
    saved = folder / "config.yaml"
    if saved.is_file():
        before = recipes.read(saved).recipe
        if before != config.recipe:
            raise UserError(
                f"{folder} was made with recipe {before!r}, not {config.recipe!r}: choose another run.name, "
                "or delete the folder"
            )
    if ranks.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        saved.write_text(recipes.to_yaml(config), encoding="utf-8")


def run_step(config: Config, step: Step) -> None:
    """Run one stage here, or on ranks started for it, unless it is finished."""
    inputs = step.reads()
    _check_upstream(step, inputs)
    decided_by = recipes.section(config, *step.decided_by)
    for section, keys in NOT_DECIDING.items():
        for key in keys if section in decided_by else ():
            decided_by[section].pop(key)
    stage = artifact.Stage(step.name, step.out, decided_by, inputs, step.resumable)
    title = f"{step.name} ({step.out.name})" if step.name == "data" else step.name
    first = ranks.is_first()
    if stage.finished:
        if first:
            say(f"[{title}] finished before, skipped")
        return
    if first:
        _do(config, step, stage, title)
        return
    if step.on_ranks:
        build(config, step, stage.workplace)
    ranks.wait_for_first(step.out, stage.fingerprint)


def _do(config: Config, step: Step, stage: artifact.Stage, title: str) -> None:
    """The first rank's part, or the only one's: build the stage and finish its folder."""
    began = time.monotonic()
    say(f"[{title}]")
    stage.prepare()
    if step.on_ranks and not ranks.already_started():
        layout = config.parallel
        ranks.launch(layout.tp * layout.pp * layout.dp, ["rank", step.name, str(run_folder(config) / "config.yaml")])
    else:
        build(config, step, stage.workplace)
    seconds = time.monotonic() - began
    stage.finish(seconds, {"peak_memory_mib": artifact.peak_memory_mib()})
    say(f"[{title}] done in {seconds:.1f} s")


def build(config: Config, step: Step, workplace: Path) -> None:
    """Call the stage's function."""
    importlib.import_module(step.module).build(config, step.reads(), workplace)


def run_as_rank(config: Config, name: str) -> None:
    """What each rank that ``run_step`` started does: its part of the stage, in the workplace made ready for it."""
    for step in road(config):
        if step.name == name:
            stage = artifact.Stage(name, step.out, {}, {}, step.resumable)
            build(config, step, stage.workplace)


def _check(config: Config) -> None:
    from nemo_adapt.checks import check  # imports torch: not for a misspelt key

    check(config)


def _check_upstream(step: Step, inputs: Inputs) -> None:
    """``UserError`` for a stage whose inputs are other stages' folders that are not there yet."""
    known = {"tokenizer", "data.target", "data.replay", "checkpoint", "train", "adapted"}
    for key in known & set(inputs):
        folder = inputs[key][0]
        if not (folder / artifact.MANIFEST).is_file():
            earlier = {"checkpoint": "convert", "adapted": "export"}.get(key, key.split(".")[0])
            raise UserError(f"{folder} is not finished: run the {earlier} stage before {step.name}")


def _given(key: str, patterns: list[str]) -> list[str]:
    if not patterns:
        raise UserError(f"no value for {key}: give it files or globs")
    return patterns


def _tokenizer_reads(config: Config) -> Inputs:
    chosen = config.tokenizer
    if not Path(chosen.base).exists():
        raise UserError(f"tokenizer.base: {chosen.base} does not exist")
    if chosen.new_tokens:
        _given("tokenizer.text", chosen.text)
    reads = {
        "base": [Path(chosen.base)],
        "text": expand(chosen.text, "tokenizer.text"),
        "guard": expand(chosen.guard, "tokenizer.guard"),
    }
    for language, pattern in chosen.parallel.items():
        reads[f"parallel.{language}"] = expand([pattern], f"tokenizer.parallel.{language}")
    return reads


def _evaluate_reads(config: Config, run: Path, exported: Path) -> Inputs:
    reads = {
        "base": [Path(config.model.path)],
        "base_tokenizer": [Path(config.tokenizer.base)],
        "adapted": [exported],
        "tokenizer": [run / "tokenizer"],
        "train": [run / "train"],
    }
    for language, pattern in config.evaluate.texts.items():
        reads[f"texts.{language}"] = expand([pattern], f"evaluate.texts.{language}")
    return reads


def stage_named(name: str) -> str:
    """``name`` if it is a stage; ``UserError`` with the nearest one otherwise."""
    if name not in names():
        raise UserError(
            f"unknown command {name!r}.{nearest(name, [*names(), 'run'])} Commands: run, {', '.join(names())}"
        )
    return name
