"""Memory of one rank, by part, as our engine takes it.

Weights, gradients and optimizer state are counted tensor by tensor, what layers keep in `plan.activations`.
Megatron-LM's megatron/training/theoretical_memory_usage.py counts the same parts more coarsely.
"""

import math
from dataclasses import dataclass

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.phases import NEW_ROWS, OUTPUT, trained
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import Layer, bytes_of, of_layers, waiting_chunks
from nemo_adapt.plan.model import Models
from nemo_adapt.vocab import LOGITS_AT_ONCE, padded_rows

GIB = 2**30
MASTER = {"bf16": 12, "fp32": 8}
"""Bytes of optimizer state for a parameter: Adam's two moments, and fp32 master weights beside bf16 ones."""
GRADIENT = 4
"""Gradients are summed in fp32."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a rank at its peak, by part."""

    stage: int
    """Its pipeline stage, counted from 0."""
    weights: float
    gradients: float
    optimizer: float
    activations: float
    """What is kept for the backward pass, of all micro batches that wait for theirs."""
    logits: float
    """Logits and their loss, on the last stage."""
    working: float
    """What one layer's backward pass needs beyond the room of the logits."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.working


def of_stages(models: Models, config: Config, phase: PhaseConfig, on_gpu: bool) -> list[Memory]:
    """The memory of a rank of each pipeline stage in ``phase``."""
    return [of_stage(models, config, phase, stage, on_gpu) for stage in range(config.parallel.pp)]


def fullest(stages: list[Memory]) -> Memory:
    """That of the rank that needs most."""
    return max(stages, key=lambda memory: memory.total)


def of_stage(models: Models, config: Config, phase: PhaseConfig, stage: int, on_gpu: bool) -> Memory:
    """The memory of a rank of pipeline stage ``stage``.

    ``on_gpu``: norms keep their input alone, as on a GPU; on a CPU torch keeps two fp32 copies.
    """
    parallel, train, shape = config.parallel, config.train, models.target
    size, what = bytes_of(train.precision), trained(phase)
    parts = model.held(models, config, stage)
    ours = sum(model.trained(parts, what))
    lent = sum(each.new for each in parts) if NEW_ROWS in what.kinds else 0
    shards = parallel.dp * parallel.cp if train.distributed_optimizer else 1
    is_last, layer = stage == parallel.pp - 1, Layer(shape, parallel, train, on_gpu)
    kept, backward = of_layers(layer, stage, what)
    waiting = waiting_chunks(stage, parallel, micro_batches(config)) / parallel.virtual
    # The masks of a whole step are made together.
    masks = train.reset_attention * micro_batches(config) * train.micro_batch * train.seq_length**2
    gathered = parallel.sequence * size * layer.tokens * shape.hidden  # Megatron's buffer for whole sequences
    head = is_last * (layer.head() if kept else layer.stream)
    rows = padded_rows(shape.vocab, config.resize.padded_vocab_multiple, parallel.tp) // parallel.tp
    table = bool(what.kinds - {OUTPUT}) * size * rows * shape.hidden  # gradient of a shard, as it arises
    logits = is_last * _logits(layer, rows, table)
    working = max(backward, table - kept if stage == 0 else 0.0)
    return Memory(
        stage,
        weights=size * (sum(each.elements for each in parts) + lent),
        gradients=GRADIENT * ours,
        optimizer=MASTER[train.precision] * math.ceil(ours / shards),
        activations=waiting * kept + head + masks + gathered,
        logits=logits,
        working=max(0.0, working - logits - head),
    )


def _logits(layer: Layer, rows: int, table: float) -> float:
    """Logits of a micro batch and what their loss needs at its peak; ``table``: the gradient of the output layer.

    The loss has a portion in fp32 beside the logits (`model.cross_entropy`). To mask padded rows takes a copy for a
    moment, to cap logits another and one that is kept.
    """
    shape, count = layer.shape, layer.tokens * rows
    size = layer.size * count
    masked, capped = rows * layer.parallel.tp > shape.vocab, bool(shape.logit_cap)
    portion = min(LOGITS_AT_ONCE[layer.on_gpu], 4 * count)
    return max(size + portion + capped * size, size * (1 + masked + 2 * capped), size + table)


def micro_batches(config: Config) -> int:
    """Micro batches of a step on each data-parallel rank."""
    return config.train.global_batch // (config.train.micro_batch * config.parallel.dp)
