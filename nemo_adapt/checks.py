"""What can be known to fail before anything is started: settings that do not fit each other or the model."""

from pathlib import Path

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt import devices, families
from nemo_adapt.choice import PROBED, Choice
from nemo_adapt.config import Config, ParallelConfig, ProbeConfig, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import LEARNED, WHOLE, Shape
from nemo_adapt.hf_folder import read_config
from nemo_adapt.phases import OUTPUT, phases, trained
from nemo_adapt.resize.plan import strategies

CHOICES = {"schedule": ("cosine", "linear", "constant", "wsd"), "precision": ("fp32", "bf16")}
"""Values of ``train`` keys that are names."""


def check(config: Config) -> None:
    """``UserError`` for a model, layout, training or strategy that cannot work."""
    hf_config = read_config(Path(config.model.path))
    shape = families.of(hf_config).shape(hf_config)
    check_layout(shape, config.parallel)
    check_train(config.train, config.parallel)
    check_positions(shape, config.train.seq_length)
    check_scores(config)
    if config.train.reset_attention and shape.is_plain and devices.has_transformer_engine():
        raise UserError(
            "train.reset_attention=true is not available with Transformer Engine, whose layers are used here"
        )
    check_phases(config, shape)
    check_probe(config.probe)
    if config.resize.input != PROBED:
        for strategy in (config.resize.input, config.resize.output):
            strategies.get(strategy)


def check_probe(probe: ProbeConfig) -> None:
    """``UserError`` for a probe that cannot be run."""
    for key in ("steps", "seeds"):
        if getattr(probe, key) < 1:
            raise UserError(f"probe.{key}={getattr(probe, key)} must be at least 1")
    if not probe.strategies:
        raise UserError("probe.strategies is empty: name at least one")
    for name in probe.strategies:
        choice = Choice.of(name)
        for strategy in (choice.input, choice.output):
            strategies.get(strategy)


def check_layout(shape: Shape, parallel: ParallelConfig) -> None:
    """``UserError`` when TP or PP does not divide what it must."""
    for what, number in (("attention heads", shape.heads), ("FFN rows", shape.ffn)):
        if number % parallel.tp:
            raise UserError(f"parallel.tp={parallel.tp} does not divide the model's {number} {what}")
    # Ranks can share a key-value head, but not where one norm goes over all of them.
    shared = parallel.tp % shape.kv_heads == 0 and shape.qk_norm != WHOLE
    if shape.kv_heads % parallel.tp and not shared:
        raise UserError(f"parallel.tp={parallel.tp} does not divide the model's {shape.kv_heads} key-value heads")
    if shape.layers % parallel.pp:
        raise UserError(f"parallel.pp={parallel.pp} does not divide the model's {shape.layers} layers")
    if parallel.sequence and parallel.tp == 1:
        raise UserError("parallel.sequence=true needs parallel.tp of at least 2")
    if parallel.virtual > 1 and parallel.pp == 1:
        raise UserError("parallel.virtual needs parallel.pp of at least 2")
    if shape.layers % (parallel.pp * parallel.virtual):
        raise UserError(
            f"parallel.pp={parallel.pp} x parallel.virtual={parallel.virtual} does not divide the model's "
            f"{shape.layers} layers"
        )
    if parallel.cp > 1 and not devices.has_transformer_engine():
        raise UserError("parallel.cp needs Transformer Engine, which is not here (it runs on a GPU alone)")
    if parallel.cp > 1 and not shape.is_plain:
        raise UserError("parallel.cp: this model has attention or norms that Transformer Engine's layers have not")


def check_positions(shape: Shape, seq_length: int) -> None:
    """``UserError`` for samples longer than a learned table of positions."""
    learned = shape.rotary is None and shape.positions == LEARNED
    if learned and seq_length > shape.max_positions:
        raise UserError(f"train.seq_length={seq_length}: the model has learned {shape.max_positions} positions")


def check_phases(config: Config, shape: Shape) -> None:
    """``UserError`` for phases that do not fit the model."""
    for phase in phases(config):
        what = trained(phase)
        if OUTPUT in what.kinds and shape.tied:
            raise UserError(
                "train.phases: train=output: this model's output layer is its input table; train embeddings"
            )
        if what.layers and max(what.layers) >= shape.layers:
            raise UserError(f"train.phases: train={phase.train}: the model has layers 0 to {shape.layers - 1}")


def check_scores(config: Config) -> None:
    """``UserError`` when held-out text is to be scored during training, and there is none."""
    train, texts, target = config.train, config.evaluate.texts, config.evaluate.target
    if train.score_every and not texts:
        raise UserError(f"train.score_every={train.score_every} needs held-out text: evaluate.texts.LANG=FILE")
    if train.keep_best and not train.score_every:
        raise UserError("train.keep_best=true needs train.score_every: how often the held-out text is scored")
    if train.keep_best and target not in texts:
        raise UserError(f"train.keep_best=true: evaluate.target={target!r} is not a language of evaluate.texts")


def check_train(train: TrainConfig, parallel: ParallelConfig) -> None:
    """``UserError`` for training settings that cannot be run."""
    for key, known in CHOICES.items():
        if getattr(train, key) not in known:
            raise UserError(f"train.{key}={getattr(train, key)!r} is not one of {', '.join(known)}")
    if parallel.cp > 1 and (train.reset_positions or train.reset_attention):
        raise UserError("parallel.cp: documents cannot be kept apart (train.reset_*) where ranks share a sequence")
    if parallel.cp > 1 and train.seq_length % (2 * parallel.cp):
        raise UserError(f"train.seq_length={train.seq_length} is no multiple of 2 x parallel.cp={parallel.cp}")
    if parallel.sequence and train.seq_length % parallel.tp:
        raise UserError(f"train.seq_length={train.seq_length} is no multiple of parallel.tp={parallel.tp}")
    check_batch(train, parallel.dp)
    micro_batches = train.global_batch // (train.micro_batch * parallel.dp)
    if parallel.virtual > 1 and micro_batches % parallel.pp:
        raise UserError(
            f"parallel.virtual={parallel.virtual} needs micro batches in multiples of parallel.pp={parallel.pp}: "
            f"there are {micro_batches} in a step"
        )


def check_batch(train: TrainConfig, dp_size: int) -> None:
    """``UserError`` unless the global batch can be shared out evenly over ``dp_size`` data-parallel ranks."""
    if train.global_batch % (train.micro_batch * dp_size):
        raise UserError(
            f"train.global_batch={train.global_batch} is no multiple of train.micro_batch={train.micro_batch} x "
            f"{dp_size} data-parallel ranks"
        )
