"""What each stage reads: names -> files of the user's and folders of earlier stages.

A file that the user names and that is not there is an error here, before anything runs.
"""

from pathlib import Path

from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run_folder import RunFolder
from nemo_adapt.text import expand


def tokenizer(config: Config, run: RunFolder) -> Inputs:
    """The base tokenizer, text to learn from, text to guard, parallel text to measure on."""
    chosen = config.tokenizer
    if not Path(chosen.base).exists():
        raise UserError(f"tokenizer.base: {chosen.base} does not exist")
    text = _files("tokenizer.text", chosen.text) if chosen.new_tokens else []
    parallel = _by_language("parallel", "tokenizer.parallel", chosen.parallel)
    return {"base": [Path(chosen.base)], "text": text, "guard": expand(chosen.guard, "tokenizer.guard"), **parallel}


def target(config: Config, run: RunFolder) -> Inputs:
    """Target text, to be cut by the extended tokenizer."""
    return {"tokenizer": [run["tokenizer"]], "text": _files("data.target", config.data.target)}


def replay(config: Config, run: RunFolder) -> Inputs:
    """Replay text, likewise."""
    return {"tokenizer": [run["tokenizer"]], "text": _files("data.replay", config.data.replay)}


def model(config: Config, run: RunFolder) -> Inputs:
    """The base model."""
    return {"model": [Path(config.model.path)]}


def converted(config: Config, run: RunFolder) -> Inputs:
    """The base model, its checkpoint, and the extended tokenizer."""
    return {**model(config, run), "tokenizer": [run["tokenizer"]], "checkpoint": [run["convert"]]}


def training(config: Config, run: RunFolder) -> Inputs:
    """All that, and the data."""
    sets = {"data.target": [run["data/target"]]}
    if config.data.replay:
        sets["data.replay"] = [run["data/replay"]]
    return {**converted(config, run), **sets}


def trained(config: Config, run: RunFolder) -> Inputs:
    """The training's checkpoints, the extended tokenizer, and the base model's configuration."""
    return {**model(config, run), "tokenizer": [run["tokenizer"]], "train": [run["train"]]}


def adapted(config: Config, run: RunFolder) -> Inputs:
    """Base and adapted model, held-out text, and what earlier stages have to tell."""
    return {
        "base": [Path(config.model.path)],
        "base_tokenizer": [Path(config.tokenizer.base)],
        "adapted": [run["export"]],
        "tokenizer": [run["tokenizer"]],
        "train": [run["train"]],
        **_by_language("texts", "evaluate.texts", config.evaluate.texts),
    }


def _files(key: str, patterns: list[str]) -> list[Path]:
    if not patterns:
        raise UserError(f"no value for {key}: give it files or globs")
    return expand(patterns, key)


def _by_language(name: str, key: str, patterns: dict[str, str]) -> dict[str, list[Path]]:
    return {f"{name}.{language}": expand([pattern], f"{key}.{language}") for language, pattern in patterns.items()}
