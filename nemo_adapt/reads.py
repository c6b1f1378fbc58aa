"""What each stage reads: names -> files of the user's and folders of earlier stages.

A file that the user names and that is not there is an error here, before anything runs.
"""

import importlib.util
from pathlib import Path

from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config, ResizeConfig
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


def piece_bytes(config: Config, run: RunFolder) -> Inputs:
    """The extended tokenizer, which holds the base's tokens."""
    return {"tokenizer": [run["tokenizer"]]}


def meetings(config: Config, run: RunFolder) -> Inputs:
    """Target text and the tokenizers that cut it."""
    return {"base": [Path(config.tokenizer.base)], **target(config, run)}


def vectors(config: Config, run: RunFolder) -> Inputs:
    """The user's vectors, or target text to train them on."""
    if config.auxiliary.vectors:
        return {"tokenizer": [run["tokenizer"]], "vectors": [_file("auxiliary.vectors", config.auxiliary.vectors)]}
    require_gensim(_strategies(config))
    return target(config, run)


def bilingual(config: Config, run: RunFolder) -> Inputs:
    """The dictionary, and text of both languages."""
    dictionary, source = config.auxiliary.dictionary, config.auxiliary.source_text or config.data.replay
    if not dictionary:
        raise UserError(
            f"{_strategies(config)} needs a bilingual dictionary: give auxiliary.dictionary a text file with a source "
            "and a target word, separated by a tab, on each line"
        )
    if not source:
        raise UserError(f"{_strategies(config)} needs source-language text: give auxiliary.source_text files or globs")
    require_gensim(_strategies(config))
    return {
        **target(config, run),
        "dictionary": [_file("auxiliary.dictionary", dictionary)],
        "source_text": expand(source, "auxiliary.source_text"),
    }


def model(config: Config, run: RunFolder) -> Inputs:
    """The base model."""
    return {"model": [Path(config.model.path)]}


def converted(config: Config, run: RunFolder) -> Inputs:
    """The base model, its checkpoint, the extended tokenizer, and what the strategies need."""
    needed = {f"auxiliary.{kind}": [run[f"auxiliary/{kind}"]] for kind in needs(config.resize)}
    return {**model(config, run), "tokenizer": [run["tokenizer"]], "checkpoint": [run["convert"]], **needed}


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


def needs(resize: ResizeConfig) -> list[str]:
    """Kinds of auxiliary data that the strategies of both tables need; ``UserError`` for an unknown strategy."""
    import nemo_adapt.resize.strategies  # noqa: F401  (registers them; imports scipy: not for a misspelt key)
    from nemo_adapt.resize.plan import needs_of

    return needs_of(resize.input, resize.output)


def require_gensim(wanted_by: str) -> None:
    """``UserError`` where gensim, which trains vectors, is not installed."""
    if importlib.util.find_spec("gensim") is None:
        raise UserError(f"{wanted_by} trains fastText vectors with gensim: pip install 'nemo-adapt[focus]'")


def _strategies(config: Config) -> str:
    """How the strategies were chosen, for error lines."""
    return f"resize.input={config.resize.input} resize.output={config.resize.output}"


def _file(key: str, path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"{key}: {path} does not exist")
    return Path(path)


def _files(key: str, patterns: list[str]) -> list[Path]:
    if not patterns:
        raise UserError(f"no value for {key}: give it files or globs")
    return expand(patterns, key)


def _by_language(name: str, key: str, patterns: dict[str, str]) -> dict[str, list[Path]]:
    return {f"{name}.{language}": expand([pattern], f"{key}.{language}") for language, pattern in patterns.items()}
