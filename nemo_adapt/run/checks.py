"""Checks before anything is started: settings that do not fit each other or the model."""

from fnmatch import fnmatchcase
from pathlib import Path

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt.config import Config, ProbeConfig
from nemo_adapt.config.layout import check_layout, check_phases, check_positions, check_train
from nemo_adapt.errors import UserError
from nemo_adapt.families.entries import parameter_names
from nemo_adapt.hf_model.model_config import read_config, read_shape
from nemo_adapt.hf_model.model_files import read_generation
from nemo_adapt.registry import nearest
from nemo_adapt.resize.plan import strategies
from nemo_adapt.strategy_choice import PROBED, StrategyChoice


def check(config: Config) -> None:
    """Raise ``UserError`` for a model, layout, training or strategy that cannot work."""
    family, shape = read_shape(Path(config.model.path))
    read_generation(Path(config.model.path))  # export adds it to the result
    check_layout(shape, config.parallel)
    check_train(config.train, config.parallel)
    check_not_decayed(config.train.no_weight_decay, list(parameter_names(family.entries(shape), shape.layers)))
    check_positions(shape, config.train.seq_length)
    check_positions(shape, config.evaluate.context, "evaluate.context")
    check_window(Path(config.model.path), config.evaluate.context)
    check_scores(config)
    check_phases(config, shape)
    check_probe(config.probe)
    if config.resize.input != PROBED:
        for strategy in (config.resize.input, config.resize.output):
            strategies.get(strategy)


def check_window(folder: Path, context: int) -> None:
    """Raise ``UserError`` for an ``evaluate.context`` above the ``max_position_embeddings`` of a model's config.json:
    the last stage refuses it. (Without that key its limit is not known here.)"""
    limit = read_config(folder).get("max_position_embeddings")
    if limit and context > limit:
        raise UserError(
            f"evaluate.context={context}: the model reads at most {limit} tokens at once (max_position_embeddings): "
            "lower it, or leave it out"
        )


def check_not_decayed(patterns: list[str], names: list[str]) -> None:
    """Raise ``UserError`` for a pattern of ``train.no_weight_decay`` that matches none of the parameters ``names``."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"train.no_weight_decay: {pattern!r} matches no parameter of this model.{nearest(pattern, names)} "
                f"Some: {', '.join(names[:: -(-len(names) // 4)])}"
            )


def check_probe(probe: ProbeConfig) -> None:
    """Raise ``UserError`` for a probe that cannot be run."""
    if not probe.strategies:
        raise UserError("probe.strategies is empty: name at least one")
    names = [StrategyChoice.of(name).name for name in probe.strategies]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"probe.strategies names {name} twice: its runs would count twice; name it once")
        choice = StrategyChoice.of(name)
        for strategy in (choice.input, choice.output):
            strategies.get(strategy)


def check_scores(config: Config) -> None:
    """Raise ``UserError`` when held-out text is to be scored during training but is not given."""
    train, texts, target = config.train, config.evaluate.texts, config.evaluate.target
    if train.score_every and not texts:
        raise UserError(f"train.score_every={train.score_every} needs held-out text: evaluate.texts.LANG=FILE")
    if train.keep_best and not train.score_every:
        raise UserError("train.keep_best=true needs train.score_every: how often the held-out text is scored")
    if train.keep_best and target not in texts:
        raise UserError(f"train.keep_best=true: evaluate.target={target!r} is not a language of evaluate.texts")
