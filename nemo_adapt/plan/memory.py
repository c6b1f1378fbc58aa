"""Memory of one rank, by part.

Weights, gradients and optimizer state are counted tensor by tensor here, activations in `plan.activations`.
Megatron-LM's megatron/training/theoretical_memory_usage.py counts the same parts more coarsely.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.config.layout import engine_fits
from nemo_adapt.config.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained, trained
from nemo_adapt.families.family import INPUT, OUTPUT
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import Layer, bytes_of, micro_batches_in_flight, of_layers
from nemo_adapt.plan.model import Models, RankTensor
from nemo_adapt.tokens.vocab import LOGITS_AT_ONCE, padded_rows

GIB = 2**30
PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "working", "saving")
"""The parts of ``Memory``."""
MASTER = {"bf16": 12, "fp32": 8}
"""Bytes of optimizer state per parameter: Adam's two moments, and fp32 master weights for bf16 ones."""
SAVED = {("bf16", True): 12, ("fp32", True): 12, ("bf16", False): 12, ("fp32", False): 8}
"""The same in a checkpoint, by (precision, distributed optimizer): the distributed one always saves fp32 weights."""
GRADIENT = 4
"""Bytes per gradient: they are accumulated in fp32."""


@dataclass(frozen=True)
class Memory:
    """Peak memory of a rank in bytes, by part."""

    stage: int
    """The rank's pipeline stage, counted from 0."""
    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Kept for the backward passes of all micro batches in flight."""
    logits: float
    """Logits and their loss, on the last stage."""
    working: float
    """Buffers of one layer's backward pass beyond the freed logits, and on a GPU ``dummy_gradients``."""
    saving: float
    """On a CPU, the copy of the rank's part of a checkpoint while it is written, as far as it adds to the peak. On GPUs
    0: that copy is in main memory (``Disk.saved_node_bytes``)."""

    @property
    def of_step(self) -> float:
        """Memory that is used only during a step."""
        return self.activations + self.logits + self.working

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.weights + self.gradients + self.optimizer + self.of_step + self.saving


def of_stages(models: Models, config: Config, phase: PhaseConfig, on_gpu: bool) -> list[Memory]:
    """Return the memory of a rank of each pipeline stage in ``phase``."""
    return [of_stage(models, config, phase, stage, on_gpu) for stage in range(config.parallel.pp)]


def fullest(stages: list[Memory]) -> Memory:
    """Return the memory of the rank that needs the most."""
    return max(stages, key=lambda memory: memory.total)


def of_stage(models: Models, config: Config, phase: PhaseConfig, stage: int, on_gpu: bool) -> Memory:
    """Return the memory of a rank of pipeline stage ``stage`` in ``phase``, on a GPU or a CPU."""
    parallel, train, shape = config.parallel, config.train, models.target
    size, what = bytes_of(train.precision), trained(phase)
    parts = model.rank_tensors(models, config, stage)
    ours = sum(model.trained(parts, what))
    new_copies = sum(each.new for each in parts) if NEW_ROWS in what.kinds else 0
    shards = parallel.dp * parallel.cp if train.distributed_optimizer else 1
    is_last, layer = stage == parallel.pp - 1, Layer(shape, parallel, train, on_gpu)
    kept, backward = of_layers(layer, stage, what)
    waiting = micro_batches_in_flight(stage, parallel, micro_batches(config), shape.layers)
    gathered = size * layer.tokens * shape.hidden if parallel.sequence else 0.0  # Megatron's all-gather buffer
    rows = padded_rows(shape.vocab, config.resize.padded_vocab_multiple, parallel.tp) // parallel.tp
    table = size * rows * shape.hidden if what.kinds - {OUTPUT} else 0  # gradient of a shard, not yet accumulated
    dummies = dummy_gradients(layer, what, rows if is_last else 0) if on_gpu else 0.0
    head = logits = 0.0
    if is_last:
        head = layer.head() if kept else layer.stream
        logits = _logits(layer, rows, table if what.kinds - {NEW_ROWS} and not dummies else 0.0)
    working = max(backward, table - kept if stage == 0 else 0.0)
    found = Memory(
        stage,
        weights=size * (sum(each.elements for each in parts) + new_copies),
        gradients=GRADIENT * ours,
        optimizer=MASTER[train.precision] * math.ceil(ours / shards),
        activations=waiting * kept + head + gathered,
        logits=logits,
        working=max(0.0, working - logits - head) + dummies,
        saving=0.0,
    )
    if on_gpu:
        return found
    saved = _saved(config, parts, what, stage)
    return replace(found, saving=saved if train.async_save else max(0.0, saved - found.of_step))


def dummy_gradients(layer: Layer, what: Trained, rows: int) -> float:
    """Return the bytes of dummy gradients. Transformer Engine accumulates weight gradients in its matrix products and
    returns placeholders, one per shape of a weight (its get_dummy_wgrad). ``rows``: output layer rows on this rank."""
    shape, tp = layer.shape, layer.parallel.tp
    if not engine_fits(shape, layer.train, layer.parallel):
        return 0.0
    attention = 2 * shape.query_rows + 2 * max(shape.kv_rows, tp * shape.head_dim)
    ffn = (3 if shape.transformer.get("gated_linear_unit") else 2) * shape.ffn
    layers = (attention + ffn) / tp if ALL in what.kinds or what.layers else 0.0
    table = rows if what.kinds & {ALL, EMBEDDINGS, OUTPUT} else 0
    return layer.size * shape.hidden * (layers + table)


def _saved(config: Config, parts: Sequence[RankTensor], what: Trained, stage: int) -> float:
    """Return the most bytes that a rank of a stage writes: its part of the optimizer state, its share of the weights.

    Each tensor is written by one rank of the DP group; the last stage's copy of a tied table by none.
    """
    train, shards = config.train, config.parallel.dp * config.parallel.cp
    own = [each for each in parts if stage == 0 or each.table != INPUT]
    sizes, trains = [each.elements for each in own], sum(model.trained(own, what))
    weights = bytes_of(train.precision) * max(sum(sizes) / shards, *sizes)
    distributed = train.distributed_optimizer
    return weights + SAVED[train.precision, distributed] * math.ceil(trains / (shards if distributed else 1))


def _logits(layer: Layer, rows: int, table: float) -> float:
    """Return the peak bytes of a micro batch's logits and loss; ``table``: bytes of the output layer's gradient.

    The loss converts the logits to fp32 one portion at a time (`model.cross_entropy`). Capping them takes a temporary
    copy, and one that is kept for the backward pass.
    """
    count = layer.tokens * rows
    size, copy = layer.size * count, layer.size * count if layer.shape.logit_cap else 0.0
    portion = min(LOGITS_AT_ONCE[layer.on_gpu], 4 * count)
    return max(size + portion + copy, size + 2 * copy, size + table)


def micro_batches(config: Config) -> int:
    """Return the number of micro batches per step on each data-parallel rank."""
    return config.train.global_batch // (config.train.micro_batch * config.parallel.dp)
