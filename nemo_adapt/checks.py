"""What can be known to fail before anything is started: settings that do not fit each other or the model."""

from pathlib import Path

import nemo_adapt.resize.strategies  # noqa: F401  (registers them)
from nemo_adapt import families
from nemo_adapt.choice import PROBED, Choice
from nemo_adapt.config import Config, ParallelConfig, ProbeConfig, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import WHOLE, Shape
from nemo_adapt.hf_folder import read_config
from nemo_adapt.phases import phases
from nemo_adapt.resize.plan import strategies

CHOICES = {"schedule": ("cosine", "linear", "constant"), "precision": ("fp32", "bf16")}
"""Values of ``train`` keys that are names."""


def check(config: Config) -> None:
    """``UserError`` for a model, layout, training or strategy that cannot work."""
    hf_config = read_config(Path(config.model.path))
    check_layout(families.of(hf_config).shape(hf_config), config.parallel)
    check_train(config.train, config.parallel)
    phases(config)
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


def check_train(train: TrainConfig, parallel: ParallelConfig) -> None:
    """``UserError`` for training settings that cannot be run."""
    for key, known in CHOICES.items():
        if getattr(train, key) not in known:
            raise UserError(f"train.{key}={getattr(train, key)!r} is not one of {', '.join(known)}")
    if parallel.sequence and train.seq_length % parallel.tp:
        raise UserError(f"train.seq_length={train.seq_length} is no multiple of parallel.tp={parallel.tp}")
    check_batch(train, parallel.dp)


def check_batch(train: TrainConfig, dp_size: int) -> None:
    """``UserError`` unless the global batch can be shared out evenly over ``dp_size`` data-parallel ranks."""
    if train.global_batch % (train.micro_batch * dp_size):
        raise UserError(
            f"train.global_batch={train.global_batch} is no multiple of train.micro_batch={train.micro_batch} x "
            f"{dp_size} data-parallel ranks"
        )
