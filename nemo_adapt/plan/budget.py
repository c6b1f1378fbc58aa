"""What a training takes in all: steps, time, disk."""

from dataclasses import dataclass, replace

from nemo_adapt import mixture
from nemo_adapt.config import Config, ParallelConfig
from nemo_adapt.mixture import text_sets
from nemo_adapt.phases import phases, total, trained
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import bytes_of
from nemo_adapt.plan.memory import SAVED
from nemo_adapt.plan.model import Models
from nemo_adapt.plan.speed import GB
from nemo_adapt.run_folder import RunFolder

USUAL = 4.0
"""Bytes of text for a token where nothing is known: what an English tokenizer reaches on English."""


@dataclass(frozen=True)
class Budget:
    """Steps of a training and what they read."""

    steps: int
    phases: list[tuple[str, int]]
    """What each trains, and its steps."""
    tokens_per_step: int
    bytes_per_token: float
    counted: str
    """Where ``bytes_per_token`` is from."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole training."""
        return self.steps * self.tokens_per_step


@dataclass(frozen=True)
class Disk:
    """Bytes and, where the cluster's disk is known, seconds."""

    base: float
    """The base model's weights: its folder, and as much again for the converted checkpoint."""
    checkpoint: float
    """One of the training's: weights, and state of the optimizer."""
    checkpoints: int
    """As many are there at once, one of them half written."""
    saves: int
    export: float
    load_seconds: float | None
    save_seconds: float | None
    saved_node_bytes: float
    """Of a node's main memory, what a checkpoint takes until it is written, where the training itself is on GPUs; 0
    where it is not, or where nothing is said of that memory."""

    @property
    def at_most(self) -> float:
        """All that the run's folder holds at once, text and datasets apart."""
        return self.base + self.checkpoints * self.checkpoint + self.export


def budget(config: Config) -> Budget:
    """Steps of each phase; ``UserError`` as ``phases`` raises it."""
    train = config.train
    known, counted = _bytes_per_token(config)
    plan = phases(config, known)
    each = [(phase.train, phase.steps) for phase in plan]
    return Budget(total(plan), each, train.global_batch * train.seq_length, known, counted)


def disk(models: Models, config: Config, steps: int) -> Disk:
    """Sizes of what is read and written.

    A checkpoint is that of the phase that trains most.
    """
    train, size = config.train, bytes_of(config.train.precision)
    parts = model.held(models, replace(config, parallel=ParallelConfig()), stage=0)  # the whole model
    weights = size * sum(each.elements for each in parts)
    state = max(sum(model.trained(parts, trained(phase))) for phase in train.phases)
    checkpoint = weights + SAVED[train.precision, train.distributed_optimizer] * state
    speed = config.cluster.disk_gb_per_s * GB
    base = models.stored_bytes * models.source_parameters
    cluster = config.cluster
    return Disk(
        base,
        checkpoint,
        checkpoints=train.keep + train.keep_best + 1,
        saves=-(-steps // train.save_every),
        export=size * models.target_parameters,
        load_seconds=base / speed if speed else None,
        save_seconds=checkpoint / speed if speed else None,
        saved_node_bytes=checkpoint / cluster.nodes if cluster.gpus_per_node and cluster.node_memory_gib else 0.0,
    )


def _bytes_per_token(config: Config) -> tuple[float, str]:
    """Bytes of text for a token of the mix: given, counted by the run's ``data``, or usual."""
    if config.plan.bytes_per_token:
        return config.plan.bytes_per_token, "plan.bytes_per_token"
    run = RunFolder.of(config)
    try:
        folders = {name: run[f"data/{name}"] for name in text_sets(config)}
        return mixture.bytes_per_token(config, folders), "counted by data"
    except FileNotFoundError:
        return USUAL, "taken for granted: plan.bytes_per_token=X, or run data first"
