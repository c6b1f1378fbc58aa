"""Memory of one rank, by part, as our engine takes it.

Weights, gradients and optimizer state are counted tensor by tensor. Activations are those that torch keeps for the
backward pass of our layers, counted as arXiv 2205.05198 (section 4) counts them, with grouped queries, gated MLPs and
without dropout; how many micro batches wait follows Megatron's schedules (megatron/core/pipeline_parallel/schedules.py;
arXiv 2104.04473). Megatron-LM's megatron/training/theoretical_memory_usage.py counts the same parts more coarsely.
"""

import math
from collections import Counter
from dataclasses import dataclass

from nemo_adapt.config import Config, ParallelConfig, PhaseConfig, TrainConfig
from nemo_adapt.families.family import AROUND, HEAD, WHOLE, Shape
from nemo_adapt.phases import ALL, EMBEDDINGS, NEW_ROWS, OUTPUT, Trained, trained
from nemo_adapt.plan import model
from nemo_adapt.plan.model import Models
from nemo_adapt.vocab import padded_rows

GIB = 2**30
MASTER = {"bf16": 12, "fp32": 8}
"""Bytes of optimizer state for a parameter: Adam's two moments, and fp32 master weights beside bf16 ones."""
GRADIENT = 4
"""Gradients are summed in fp32."""
LOGIT = {"bf16": 6, "fp32": 8}
"""Bytes for a logit when the loss is at its peak: logits and their fp32 softmax; in fp32, logits and a gradient."""
Z_LOGIT = {"bf16": 12, "fp32": 12}
"""The same with ``train.z_loss``."""


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


def bytes_of(precision: str) -> int:
    """Bytes of a weight or activation."""
    return 2 if precision == "bf16" else 4


def of_stages(models: Models, config: Config, phase: PhaseConfig, fused_norms: bool) -> list[Memory]:
    """The memory of a rank of each pipeline stage in ``phase``."""
    return [of_stage(models, config, phase, stage, fused_norms) for stage in range(config.parallel.pp)]


def fullest(stages: list[Memory]) -> Memory:
    """That of the rank that needs most."""
    return max(stages, key=lambda memory: memory.total)


def of_stage(models: Models, config: Config, phase: PhaseConfig, stage: int, fused_norms: bool) -> Memory:
    """The memory of a rank of pipeline stage ``stage``.

    ``fused_norms``: norms keep their input alone, as on a GPU; without, torch keeps two fp32 copies.
    """
    parallel, train, shape = config.parallel, config.train, models.target
    size, what = bytes_of(train.precision), trained(phase)
    parts = model.held(models, config, stage)
    ours = sum(model.trained(parts, what))
    lent = sum(each.new for each in parts) if NEW_ROWS in what.kinds else 0
    shards = parallel.dp * parallel.cp if train.distributed_optimizer else 1
    is_last, layer = stage == parallel.pp - 1, Layer(shape, parallel, train, fused_norms)
    kept, backward = _kept(layer, stage, what)
    waiting = waiting_chunks(stage, parallel, micro_batches(config)) / parallel.virtual
    # The masks of a whole step are made together.
    masks = train.reset_attention * micro_batches(config) * train.micro_batch * train.seq_length**2
    gathered = parallel.sequence * size * layer.tokens * shape.hidden  # Megatron's buffer for whole sequences
    head = is_last * (layer.head() if kept else layer.stream)
    rows = padded_rows(shape.vocab, config.resize.padded_vocab_multiple, parallel.tp) // parallel.tp
    table = bool(what.kinds - {OUTPUT}) * size * rows * shape.hidden  # gradient of a shard, as it arises
    of_logit = (Z_LOGIT if train.z_loss else LOGIT)[train.precision] + (size if shape.logit_cap else 0)
    logits = is_last * max(of_logit * layer.tokens * rows, size * layer.tokens * rows + table)
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


def micro_batches(config: Config) -> int:
    """Micro batches of a step on each data-parallel rank."""
    return config.train.global_batch // (config.train.micro_batch * config.parallel.dp)


def waiting_chunks(stage: int, parallel: ParallelConfig, count: int) -> int:
    """Chunks whose activations a stage holds at most, with ``count`` micro batches in a step.

    One forward, one backward: a stage begins with as many micro batches as there are stages behind it. Interleaved, it
    begins with twice as many, and all chunks but the last of the first ``pp`` (arXiv 2104.04473, section 2.2).
    """
    behind = parallel.pp - stage - 1
    if parallel.virtual == 1:
        return min(count, behind + 1)
    return min(count * parallel.virtual, 2 * behind + (parallel.virtual - 1) * parallel.pp + 1)


@dataclass(frozen=True)
class Layer:
    """What the layers of one rank keep for the backward pass of one micro batch, in bytes."""

    shape: Shape
    parallel: ParallelConfig
    train: TrainConfig
    fused_norms: bool

    @property
    def size(self) -> int:
        """Bytes of an activation."""
        return bytes_of(self.train.precision)

    @property
    def tokens(self) -> float:
        """Tokens of a micro batch on this rank."""
        return self.train.micro_batch * self.train.seq_length / self.parallel.cp

    @property
    def stream(self) -> float:
        """The residual stream, or whatever else is as wide and cut over TP where sequences are."""
        return self.size * self.tokens * self.shape.hidden / self._cut

    @property
    def _cut(self) -> int:
        return self.parallel.tp if self.parallel.sequence else 1

    def norm(self, columns: float, frozen: bool = False) -> float:
        """What a norm over ``columns`` keeps, its output apart."""
        if self.shape.transformer.get("normalization") == "LayerNorm":
            return self.size * self.tokens * columns
        if self.fused_norms:
            wide = self.shape.transformer.get("layernorm_zero_centered_gamma")  # taken in fp32, see model.layers
            return (4 if wide else self.size) * self.tokens * columns
        return (4 if frozen else 8) * self.tokens * columns

    def attention(self, window: int, frozen: bool) -> float:
        """Queries, keys, values, what they attend to, and their norms; tokens see ``window`` positions."""
        shape, tp, length = self.shape, self.parallel.tp, self.train.seq_length
        queries, keys = shape.query_rows / tp, max(shape.kv_rows / tp, shape.head_dim)
        if shape.attention_cap:  # written out, see model.layers: keys and values for every head, three kinds of scores
            bytes_of_token = self.size * 4 * queries + 8 * length * shape.heads / tp
        else:
            # Values are a part of what the three are computed as.
            mixed = (shape.query_rows + 2 * shape.kv_rows) / (tp if shape.kv_heads >= tp else 1)
            turned = queries + keys if shape.rotary else 0
            bytes_of_token = self.size * (mixed + turned + queries) + 4 * shape.heads / tp
        if shape.qk_norm == HEAD:
            bytes_of_token += self.norm(queries + keys, frozen) / self.tokens
        if shape.qk_norm == WHOLE:  # fp32, see model.layers
            bytes_of_token += 8 * (queries + keys)
        slides = 0 < window < length
        masks = self.train.micro_batch if self.train.reset_attention else slides or bool(shape.attention_cap)
        return self.tokens * bytes_of_token + masks * (1 if shape.attention_cap else self.size) * length**2

    def mlp(self, frozen: bool) -> float:
        """Between the two products: gate and up, their parts as copies, their product."""
        wide = 5 if self.shape.transformer.get("gated_linear_unit") else 2
        return self.size * self.tokens * (wide - frozen) * self.shape.ffn / self.parallel.tp

    def kept(self, window: int, frozen: bool = False) -> float:
        """All that a layer keeps whose tokens see ``window`` positions (0: all)."""
        columns = self.shape.hidden / self._cut
        norms = (4 if self.shape.norms == AROUND else 2) * self.norm(columns, frozen)
        inputs = 0 if frozen else 2 * self.stream
        return norms + inputs + self.attention(window, frozen) + self.mlp(frozen)

    def head(self) -> float:
        """The final norm and the output layer's input."""
        return self.norm(self.shape.hidden / self._cut) + self.stream

    def gradients(self) -> float:
        """What a layer's backward pass needs at once, as it begins: gradients of the MLP's product and of a weight."""
        ffn, hidden = self.shape.ffn / self.parallel.tp, self.shape.hidden
        begin = ffn * (self.tokens + hidden) + 2 * self.tokens * hidden / self._cut
        gated = bool(self.shape.transformer.get("gated_linear_unit"))
        return self.size * max(begin, gated * ffn * (2 * hidden - 3 * self.tokens))  # of gate and up, the rest freed


def _kept(layer: Layer, stage: int, what: Trained) -> tuple[float, float]:
    """Bytes that the layers of a stage keep of one micro batch, and what their backward pass needs besides."""
    parallel, shape = layer.parallel, layer.shape
    everything, tables = ALL in what.kinds, bool(what.kinds & {EMBEDDINGS, NEW_ROWS})
    first = 0 if everything or tables else min(what.layers, default=shape.layers)
    ours = [number for number in model.layers_of(stage, shape.layers, parallel) if number >= first]
    if not ours:
        return 0.0, 0.0
    sent = 0.0 if stage == parallel.pp - 1 else layer.stream * parallel.virtual
    if layer.train.recompute:
        return len(ours) * layer.stream + sent, layer.kept(_window(shape, ours[0])) + layer.gradients()
    kinds = Counter((_window(shape, number), not everything and number not in what.layers) for number in ours)
    kept = sum(count * layer.kept(window, frozen) for (window, frozen), count in kinds.items())
    return kept + sent, layer.gradients()


def _window(shape: Shape, number: int) -> int:
    return shape.windows[number] if shape.windows else 0
