"""Activations that layers keep for the backward pass, in bytes per rank.

Counted tensor by tensor as torch saves them for our layers (`model.attention`, `model.layers`), like arXiv 2205.05198,
section 4, but with grouped-query attention, gated MLPs and no dropout.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate

from nemo_adapt.config import ParallelConfig, TrainConfig
from nemo_adapt.config.layout import engine_fits, stage_layers
from nemo_adapt.config.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained
from nemo_adapt.families.family import ALIBI, AROUND, BESIDE, HEAD, OWN, ROTATED, SHARED, WHOLE, Shape
from nemo_adapt.plan import model

NORMS = {AROUND: 4, SHARED: 1, BESIDE: 1}
"""Inputs of norms that a layer keeps, where they are not two."""
ALIBI_COLUMNS = 8
"""Columns added to each head's queries, keys and values for the bias, if head_dim is a multiple of 8
(`model.positions`)."""


def bytes_of(precision: str) -> int:
    """Return the bytes of a weight or activation."""
    return 2 if precision == "bf16" else 4


def micro_batches_in_flight(stage: int, parallel: ParallelConfig, count: int, layers: int) -> float:
    """Return the most micro batches whose activations a stage holds at once, of ``count`` in a step; those in a part of
    its interleaved chunks count as the share of its layers.

    1F1B: a stage starts with one forward pass for each later stage. Interleaved: with twice as many, and with the
    first ``pp`` micro batches in all chunks but the last (arXiv 2104.04473, section 2.2).
    """
    pp, virtual, behind = parallel.pp, parallel.virtual, parallel.pp - stage - 1
    chunks = stage_layers(layers, parallel)[stage::pp]
    ahead = behind + 1 if virtual == 1 else 2 * behind + (virtual - 1) * pp + 1  # passes before the first backward
    passes = range(min(count * virtual, ahead + pp * virtual))  # then the same again
    forward = [chunks[number // pp % virtual] for number in passes]
    backward = [0] * ahead + [chunks[-1 - number // pp % virtual] for number in passes]
    return max(accumulate(kept - freed for kept, freed in zip(forward, backward, strict=False))) / sum(chunks)


@dataclass(frozen=True)
class Layer:
    """Bytes that a layer on one rank keeps for the backward pass of one micro batch."""

    shape: Shape
    parallel: ParallelConfig
    train: TrainConfig
    on_gpu: bool

    @property
    def size(self) -> int:
        """Bytes per activation."""
        return bytes_of(self.train.precision)

    @property
    def tokens(self) -> float:
        """Tokens of a micro batch on this rank."""
        return self.train.micro_batch * self.train.seq_length / self.parallel.cp

    @property
    def stream(self) -> float:
        """Bytes of the residual stream, or of any tensor of its width; sharded over TP under sequence parallelism."""
        return self.size * self.tokens * self.shape.hidden / self.sequence_shards

    @property
    def sequence_shards(self) -> int:
        """Number of shards of a sequence over TP: ``tp`` with sequence parallelism, else 1."""
        return self.parallel.tp if self.parallel.sequence else 1

    def norm(self, columns: float, frozen: bool = False) -> float:
        """Return the bytes that a norm over ``columns`` keeps, without its output.

        That is its input, and for an RMSNorm on a CPU two fp32 copies (one if ``frozen``).
        """
        wide = self.shape.transformer.get("layernorm_zero_centered_gamma")  # fp32 where torch does not compile
        if self.on_gpu or self.shape.transformer.get("normalization") == "LayerNorm":
            return (4 if wide else self.size) * self.tokens * columns
        return (4 if frozen else 8) * self.tokens * columns

    @property
    def gathers(self) -> bool:
        """Whether CP ranks all-gather keys and values (`model.context`); in Transformer Engine's layers these go around
        a ring (its AttnFuncWithCPAndKVP2P)."""
        return self.parallel.cp > 1 and not (self.on_gpu and engine_fits(self.shape, self.train, self.parallel))

    def calls(self, window: int) -> list[tuple[int, int]]:
        """Return the queries and keys of each attention kernel that a sample calls: for the whole sequence; if keys are
        gathered, for each of the rank's two chunks; and without a flash kernel, for each block of a ``window`` (0: all
        keys; see ``model.attention``)."""
        length, cp = self.train.seq_length, self.parallel.cp
        half = length // (2 * cp)
        whole = [(half, half), (half, length)] if self.gathers else [(length // cp, length)]
        return [
            call
            for rows, keys in whole
            for call in (blocks(rows, keys, window) if self.slides(window) else [(rows, keys)])
        ]

    def slides(self, window: int) -> bool:
        """Whether attention with this ``window`` (0: all keys) is computed in blocks."""
        has_flash = self.on_gpu and self.train.precision == "bf16" and not self.shape.attention_cap
        return 0 < window < self.train.seq_length and not has_flash

    def attention(self, window: int, rotates: bool, frozen: bool) -> float:
        """Return the bytes of queries, keys, values, attention output and QK norms.

        ``window``: positions that a token sees (0: all). ``rotates``: the layer has rotary positions. ``frozen``: it is
        not trained.
        """
        if self.shape.attention_cap:
            of_token = self._capped(window)
        elif self.shape.positions == ALIBI and not rotates:
            of_token = self._with_alibi(window)
        else:
            of_token = self._plain(window, rotates)
        return self.tokens * (of_token + self._qk_norms(frozen))

    @property
    def queries(self) -> float:
        """Columns of a token's queries on this rank; the attention output has as many."""
        return self.shape.query_rows / self.parallel.tp

    @property
    def keys(self) -> float:
        """Columns of a token's keys on this rank; its values have as many."""
        return max(self.shape.kv_rows / self.parallel.tp, self.shape.head_dim)

    def _capped(self, window: int) -> float:
        """Return the bytes per token: attention has no kernel, and keeps keys and values for every head, and three
        score tensors (``model.attention``)."""
        scores = sum(rows * columns for rows, columns in self.calls(window)) / self.local
        columns = (2 + 2 * self._times(window)) * self.queries + self._joined(window)
        return self.size * columns + 8 * scores * self.shape.heads / self.parallel.tp

    def _with_alibi(self, window: int) -> float:
        """Return the bytes per token: queries, keys, values and output with the columns of the bias, and the output
        without them."""
        heads = self.shape.heads / self.parallel.tp
        wide = self.queries + ALIBI_COLUMNS * heads
        return self.size * ((2 + 2 * self._times(window)) * wide + self.queries) + 4 * heads

    def _plain(self, window: int, rotates: bool) -> float:
        columns = self._inputs(window, rotates) + self.queries + self._joined(window)
        return self.size * columns + 4 * self.shape.heads / self.parallel.tp

    def _inputs(self, window: int, rotates: bool) -> float:
        """Return the columns of a token's queries, keys and values before and after rotation and copying.

        Values are a view of the QKV projection's output. They are copied in blocks, under CP, and on a GPU with grouped
        heads in fp32.
        """
        shape, tp = self.shape, self.parallel.tp
        projected = (shape.query_rows + 2 * shape.kv_rows) / (tp if shape.kv_heads >= tp else 1)
        if self.gathers or self.slides(window) or self.ungroups:
            viewed = self.keys if shape.qk_norm and (self.on_gpu or self.size == 4) else 0  # by the norms' inputs
            return self._copies(window) + viewed + self.queries if rotates else self._copies(window) + projected
        if not rotates:
            return projected
        values = self.keys if self.parallel.cp > 1 and not shape.qk_norm else projected
        return values + (self.queries + self.keys)

    def _copies(self, window: int) -> float:
        """Return the columns of a token's copied keys and values."""
        slides, times = self.slides(window), self._times(window)
        if self.ungroups:
            return 2 * times * self.queries
        is_view = slides and 2 * window < self.local  # a chunk, of what is gathered
        gathered = self.parallel.cp if self.gathers and not is_view else 0
        return 2 * (gathered + (times if slides else 0)) * self.keys

    @property
    def ungroups(self) -> bool:
        """Whether grouped keys and values are repeated for every head."""
        return self.on_gpu and self.size == 4 and self.queries > self.keys

    @property
    def local(self) -> float:
        """Tokens of a sample on this rank."""
        return self.train.seq_length / self.parallel.cp

    def _times(self, window: int) -> float:
        """Return how many keys the attention kernels of a sample get, per token of it."""
        if not (self.slides(window) or self.gathers):
            return 1.0
        return sum(columns for _, columns in self.calls(window)) / self.local

    def _joined(self, window: int) -> float:
        """Return the columns of a token's output if the outputs of several calls are concatenated."""
        return self.queries if self.gathers or self.train.reset_attention or self.slides(window) else 0.0

    def _qk_norms(self, frozen: bool) -> float:
        """Return the bytes per token."""
        columns = self.queries + self.keys
        if self.shape.qk_norm in (HEAD, ROTATED):
            return self.norm(columns, frozen) / self.tokens
        return 8 * columns if self.shape.qk_norm in (OWN, WHOLE) else 0  # fp32, see model.layers

    def masks(self) -> float:
        """Return the bytes of attention masks, which layers share."""
        found = {
            (rows, columns)
            for window in set(self.shape.windows or (0,))
            for rows, columns in self.calls(window)
            # On a CPU, attention with fewer queries than keys needs one.
            if (self.slides(window) and columns > window)
            or self.shape.attention_cap
            or (self.gathers and rows < columns and not self.on_gpu)
        }
        return float(self.size * sum(rows * columns for rows, columns in found))

    def angles(self) -> float:
        """Return the bytes of the rotary angles (fp32), which all layers of a model chunk share."""
        if not self.shape.rotary:
            return 0.0
        places = self.tokens / (1 if self.train.reset_positions else self.train.micro_batch)
        return 4 * places * self.shape.head_dim * self.shape.rotary.share * len(self.shape.kinds_of_rotary)

    def mlp(self, frozen: bool) -> float:
        """Return the bytes kept between the MLP's two projections: gate and up, and their product, as in `model.gated`
        and Megatron's fused kernel."""
        tensors = 3 if self.shape.transformer.get("gated_linear_unit") else 2
        if frozen:  # the product is only needed for the gradient of the second projection's weight
            tensors -= 1
        return self.size * self.tokens * tensors * self.shape.ffn / self.parallel.tp

    def kept(self, window: int, rotates: bool, frozen: bool = False) -> float:
        """Return all bytes that a layer keeps; the arguments are those of ``attention``."""
        columns = self.shape.hidden / self.sequence_shards
        norms = NORMS.get(self.shape.norms, 2) * self.norm(columns, frozen)
        inputs = 0 if frozen else (1 if self.shape.norms == SHARED else 2) * self.stream
        return norms + inputs + self.attention(window, rotates, frozen) + self.mlp(frozen)

    def head(self) -> float:
        """Return the bytes kept by the final norm and as the output layer's input."""
        return self.norm(self.shape.hidden / self.sequence_shards) + self.stream

    def gradients(self) -> float:
        """Return the peak bytes of gradients in a layer's backward pass.

        It begins with the gradients of the second projection's input and weight. In a gated MLP, the gradient of gate
        and up then replaces the former, and that of the first projection's weight comes once gate and up are freed.
        """
        ffn, hidden = self.shape.ffn / self.parallel.tp, self.shape.hidden
        streams = 2 * self.tokens * hidden / self.sequence_shards
        begin = ffn * (self.tokens + hidden) + streams
        if not self.shape.transformer.get("gated_linear_unit"):
            return self.size * begin
        return self.size * max(begin, ffn * 2 * self.tokens + streams, ffn * (2 * hidden - self.tokens))


def blocks(rows: int, keys: int, window: int) -> list[tuple[int, int]]:
    """Return the queries and keys of each block of ``window`` queries, the last ``rows`` of ``keys`` positions
    (``model.attention``)."""
    before, found = min(window, keys - rows), []
    for start in range(0, rows, window):
        queries = min(window, rows - start)
        found.append((queries, before + queries))
        before = queries
    return found


def of_layers(layer: Layer, stage: int, what: Trained) -> tuple[float, float]:
    """Return the bytes that a stage's layers keep for one micro batch, and the further bytes of their backward pass."""
    parallel, shape = layer.parallel, layer.shape
    everything, tables = ALL in what.kinds, bool(what.kinds & {EMBEDDINGS, NEW_ROWS})
    whole = everything or tables or (layer.train.recompute and what.layers)
    first = 0 if whole else min(what.layers, default=shape.layers)
    ours = [number for number in model.layers_of(stage, shape.layers, parallel) if number >= first]
    if not ours:
        return 0.0, 0.0
    # Outputs of all chunks but the last: without interleaved stages they are freed once they are sent.
    is_last = stage == parallel.pp - 1
    sent = layer.stream * (parallel.virtual - 1 if is_last else parallel.virtual) if parallel.virtual > 1 else 0.0
    sent += layer.angles() * parallel.virtual + layer.masks()  # each chunk has its own angles
    sent += layer.norm(shape.hidden / layer.sequence_shards) if shape.embedding_norm and stage == 0 else 0.0
    if layer.train.recompute:
        largest = max(layer.kept(*kind) for kind in {_kind(shape, number) for number in ours})
        return len(ours) * layer.stream + sent, largest + layer.gradients()
    kinds = Counter((*_kind(shape, number), not everything and number not in what.layers) for number in ours)
    kept = sum(count * layer.kept(*kind) for kind, count in kinds.items())
    return kept + sent, layer.gradients()


def _kind(shape: Shape, number: int) -> tuple[int, bool]:
    """Return a layer's window and whether it has rotary positions."""
    rotary = shape.rotaries[number] if shape.rotaries else shape.rotary
    return shape.windows[number] if shape.windows else 0, rotary is not None
