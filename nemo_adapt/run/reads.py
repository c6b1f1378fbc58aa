"""The inputs of each stage: name -> the user's files and folders of earlier stages.

A file that the user names but that does not exist is a ``UserError`` here, before anything runs.
"""

import importlib.util
from pathlib import Path

from nemo_adapt.checkpoint.folders import checkpoint_in
from nemo_adapt.config import Config
from nemo_adapt.corpora.mixture import TARGET, held_out_texts, task_files, text_sets
from nemo_adapt.corpora.text import existing, expand, one_file
from nemo_adapt.errors import UserError
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.run.run_folder import RunFolder, data_folders
from nemo_adapt.strategy_choice import PROBED, StrategyChoice


def tokenizer(config: Config, run: RunFolder) -> Inputs:
    """The base tokenizer, one that extends it already or text to learn from, guard text, and parallel text to measure
    fertility on.

    The model's config.json says whether the base fits it, and how transformers loads the result.
    """
    chosen = config.tokenizer
    if not Path(chosen.base).exists():
        key = "model.path" if chosen.base == config.model.path else "tokenizer.base"
        raise UserError(f"{key}: {chosen.base} does not exist: give a folder on this machine")
    text = _files("tokenizer.text", chosen.text) if chosen.new_tokens and not chosen.given else []
    given = {"given": [existing(chosen.given, "tokenizer.given")]} if chosen.given else {}
    parallel = _by_language("parallel", "tokenizer.parallel", chosen.parallel)
    guard, described = expand(chosen.guard, "tokenizer.guard"), Path(config.model.path) / "config.json"
    beside = config.model.path and config.model.path != chosen.base and described.is_file()
    of_model = {"model": [described]} if beside else {}
    return {"base": [Path(chosen.base)], "text": text, "guard": guard, **parallel, **of_model, **given}


def text_set(name: str, config: Config, run: RunFolder) -> Inputs:
    """The text of one set, and the extended tokenizer that encodes it."""
    given = text_sets(config)[name]
    return {"tokenizer": [run["tokenizer"]], "text": _files(given.key, given.text)}


def target(config: Config, run: RunFolder) -> Inputs:
    """The same for the target set."""
    return text_set(TARGET, config, run)


def piece_bytes(config: Config, run: RunFolder) -> Inputs:
    """The extended tokenizer, which includes the base's tokens."""
    return {"tokenizer": [run["tokenizer"]]}


def overlaps(config: Config, run: RunFolder) -> Inputs:
    """Target text, and the base and extended tokenizers that both encode it."""
    return {"base": [Path(config.tokenizer.base)], **target(config, run)}


def vectors(config: Config, run: RunFolder) -> Inputs:
    """The user's vectors or a donor's folder, or target text to train them on."""
    if given := config.auxiliary.vectors:
        return {"tokenizer": [run["tokenizer"]], "vectors": [existing(given, "auxiliary.vectors")]}
    _require_gensim(_strategies(config, "vectors"))
    return target(config, run)


def bilingual(config: Config, run: RunFolder) -> Inputs:
    """The dictionary, and text of both languages."""
    wanted_by = _strategies(config, "bilingual")
    dictionary, source = config.auxiliary.dictionary, config.auxiliary.source_text or config.data.replay
    if not dictionary:
        raise UserError(
            f"{wanted_by} needs a bilingual dictionary: give auxiliary.dictionary a text file with a source "
            "and a target word, separated by a tab, on each line"
        )
    if not source:
        raise UserError(f"{wanted_by} needs source-language text: give auxiliary.source_text files or globs")
    _require_gensim(wanted_by)
    return {
        **target(config, run),
        "dictionary": [_file("auxiliary.dictionary", dictionary)],
        "source_text": expand(source, "auxiliary.source_text"),
    }


def convert(config: Config, run: RunFolder) -> Inputs:
    """The base model and, with ``model.checkpoint``, the checkpoint that has its weights."""
    if not config.model.checkpoint:
        return _model(config, run)
    if not Path(config.model.checkpoint).is_dir():
        raise UserError(f"model.checkpoint: {config.model.checkpoint} does not exist")
    return {**_model(config, run), "weights": [checkpoint_in(Path(config.model.checkpoint))]}


def resize(config: Config, run: RunFolder) -> Inputs:
    """The base model, its checkpoint, the extended tokenizer, auxiliary data, and the probe's choice if it is used."""
    choice = {"probe": [run["probe"]]} if config.resize.input == PROBED else {}
    return {**_converted(config, run), **choice}


def train(config: Config, run: RunFolder) -> Inputs:
    """The inputs of ``resize``, the data, and the held-out text that selects the best checkpoint. Other held-out text
    does not affect the result, but must exist if it is scored."""
    texts = held_out_texts(config) if config.train.score_every else {}
    target = config.evaluate.target
    chooses = {"train.keep_best": [texts[target]]} if config.train.keep_best and target in texts else {}
    return {**resize(config, run), **_data(config, run), **chooses}


def probe(config: Config, run: RunFolder) -> Inputs:
    """The inputs of training, without the probe's choice, and held-out text in the target language."""
    texts, target = config.evaluate.texts, config.evaluate.target
    if target not in texts:
        raise UserError(f"evaluate.target={target!r} is not a language of evaluate.texts: the probe scores that text")
    held_out = one_file(texts[target], f"evaluate.texts.{target}")
    return {**_converted(config, run, probes=True), **_data(config, run), "text": [held_out]}


def export(config: Config, run: RunFolder) -> Inputs:
    """The training's checkpoints, the extended tokenizer, and the base model's configuration."""
    return {**_model(config, run), "tokenizer": [run["tokenizer"]], "train": [run["train"]]}


def evaluate(config: Config, run: RunFolder) -> Inputs:
    """Base and adapted model, held-out text, tasks, and the stages that the report describes."""
    return {
        "base": [Path(config.model.path)],
        "base_tokenizer": [Path(config.tokenizer.base)],
        "adapted": [run["export"]],
        "tokenizer": [run["tokenizer"]],
        "train": [run["train"]],
        **_by_language("texts", "evaluate.texts", config.evaluate.texts),
        **_tasks(config),
    }


def needs(config: Config, probes: bool = False) -> list[str]:
    """Return the kinds of auxiliary data that the strategies of both tables need; where the probe runs or its choice is
    used, those of all strategies that it tries. ``UserError`` for an unknown strategy."""
    import nemo_adapt.resize.strategies  # noqa: F401  (registers them; here, as it imports scipy)
    from nemo_adapt.resize.plan import needs_of

    if not probes and config.resize.input != PROBED:
        return needs_of(config.resize.input, config.resize.output)
    choices = map(StrategyChoice.of, config.probe.strategies)
    return needs_of(*(name for choice in choices for name in (choice.input, choice.output)))


def _require_gensim(wanted_by: str) -> None:
    """Raise ``UserError`` where gensim, which trains vectors, is not installed."""
    if importlib.util.find_spec("gensim") is None:
        raise UserError(f"{wanted_by} trains fastText vectors with gensim: pip install 'nemo-adapt[focus]'")


def _strategies(config: Config, kind: str) -> str:
    """Return the settings that chose the strategies with this kind of auxiliary data, for error messages."""
    if config.resize.input != PROBED and kind in needs(config):
        return f"resize.input={config.resize.input} resize.output={config.resize.output}"
    return f"probe.strategies=[{','.join(config.probe.strategies)}]"


def _tasks(config: Config) -> Inputs:
    return {f"tasks.{name}": [path] for name, path in task_files(config.evaluate).items()}


def _file(key: str, path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"{key}: {path} does not exist")
    return Path(path)


def _model(config: Config, run: RunFolder) -> Inputs:
    """The base model."""
    return {"model": [Path(config.model.path)]}


def _converted(config: Config, run: RunFolder, probes: bool = False) -> Inputs:
    """The base model, its checkpoint, the extended tokenizer, and what the strategies need."""
    needed = {f"auxiliary.{kind}": [run[f"auxiliary/{kind}"]] for kind in needs(config, probes)}
    return {**_model(config, run), "tokenizer": [run["tokenizer"]], "checkpoint": [run["convert"]], **needed}


def _data(config: Config, run: RunFolder) -> Inputs:
    return {f"data.{name}": [folder] for name, folder in data_folders(config, run).items()}


def _files(key: str, patterns: list[str]) -> list[Path]:
    if not patterns:
        raise UserError(f"no value for {key}: give it files or globs")
    return expand(patterns, key)


def _by_language(name: str, key: str, patterns: dict[str, str]) -> dict[str, list[Path]]:
    """Return one file for each language: of a glob that matches several, the others would be left out silently."""
    return {f"{name}.{language}": [one_file(each, f"{key}.{language}")] for language, each in patterns.items()}
