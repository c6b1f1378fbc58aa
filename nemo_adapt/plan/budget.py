"""The steps, tokens and disk space of a whole training."""

from dataclasses import dataclass, replace
from itertools import accumulate

from nemo_adapt.config import Config, ParallelConfig
from nemo_adapt.config.phases import phases, total, trained
from nemo_adapt.corpora import mixture
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import bytes_of
from nemo_adapt.plan.memory import SAVED
from nemo_adapt.plan.model import Models
from nemo_adapt.plan.speed import GB
from nemo_adapt.run.run_folder import RunFolder, data_folders

ASSUMED_BYTES_PER_TOKEN = 4.0
"""Bytes of text per token if nothing else is known: typical of an English tokenizer on English text."""


@dataclass(frozen=True)
class Budget:
    """Steps of a training, and the text that they read."""

    steps: int
    phases: list[tuple[str, int]]
    """Of each phase: what it trains, and its steps."""
    tokens_per_step: int
    bytes_per_token: float
    counted: str
    """Source of ``bytes_per_token``, in words."""

    @property
    def tokens(self) -> int:
        """Tokens of all steps."""
        return self.steps * self.tokens_per_step


@dataclass(frozen=True)
class Disk:
    """Sizes in bytes and, if the bandwidth of the cluster's disk is known, times in seconds."""

    base: float
    """The base model's weights in its own folder; the converted checkpoint takes as much again."""
    checkpoint: float
    """One training checkpoint: weights and optimizer state."""
    checkpoints: int
    """Checkpoints on disk at once, including one that is being written."""
    saves: int
    """Checkpoints written during the training, without those of ``save_minutes`` and ``keep_best``."""
    export: float
    """The exported model."""
    load_seconds: float | None
    """Time to read the base model."""
    save_seconds: float | None
    """Time to write a checkpoint."""
    saved_node_bytes: float
    """Main memory of a node that holds a checkpoint until it is written, when training on GPUs; 0 without GPUs, or if
    ``cluster.node_memory_gib`` is unknown."""

    @property
    def at_most(self) -> float:
        """Most bytes in the run's folder at once, without text and datasets."""
        return self.base + self.checkpoints * self.checkpoint + self.export


def budget(config: Config) -> Budget:
    """Return the steps and tokens of a training; ``UserError`` as ``phases`` raises it."""
    train = config.train
    known, counted = _bytes_per_token(config)
    plan = phases(config, known)
    each = [(phase.train, phase.steps) for phase in plan]
    return Budget(total(plan), each, train.global_batch * train.seq_length, known, counted)


def disk(models: Models, config: Config, spent: Budget) -> Disk:
    """Return the sizes of what a training reads and writes.

    The checkpoint is that of the phase that trains the most parameters.
    """
    train, size = config.train, bytes_of(config.train.precision)
    parts = model.rank_tensors(models, replace(config, parallel=ParallelConfig()), stage=0)  # the whole model
    weights = size * sum(each.elements for each in parts)
    state = max(sum(model.trained(parts, trained(phase))) for phase in phases(config))
    checkpoint = weights + SAVED[train.precision, train.distributed_optimizer] * state
    kept = train.keep + (1 if train.keep_best else 0) + (spent.steps // train.keep_every if train.keep_every else 0)
    speed = config.cluster.disk_gb_per_s * GB
    base = models.stored_bytes * models.source_parameters
    cluster = config.cluster
    return Disk(
        base,
        checkpoint,
        checkpoints=kept + 1,
        saves=_saves(spent, train.save_every, train.keep_every),
        export=size * models.target_parameters,
        load_seconds=base / speed if speed else None,
        save_seconds=checkpoint / speed if speed else None,
        saved_node_bytes=checkpoint / cluster.nodes if cluster.gpus_per_node and cluster.node_memory_gib else 0.0,
    )


def _saves(spent: Budget, every: int, keep_every: int) -> int:
    """Return the number of checkpoints: one after ``every`` and ``keep_every`` steps (0: none), and one at the end of
    each phase."""
    saved = {*accumulate(steps for _, steps in spent.phases), *range(every, spent.steps + 1, every)}
    return len(saved.union(range(keep_every, spent.steps + 1, keep_every) if keep_every else ()))


def _bytes_per_token(config: Config) -> tuple[float, str]:
    """Return the bytes of text per token of the mix, and their source: configured, counted by ``data``, or assumed."""
    if config.plan.bytes_per_token:
        return config.plan.bytes_per_token, "plan.bytes_per_token"
    try:
        folders = data_folders(config, RunFolder.of(config))
        return mixture.bytes_per_token(config, folders), "counted by data"
    except FileNotFoundError:
        return ASSUMED_BYTES_PER_TOKEN, "assumed: plan.bytes_per_token=X, or run data first"
