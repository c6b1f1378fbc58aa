"""What layers keep for the backward pass, in bytes of one rank.

Counted tensor by tensor as torch keeps them for our layers (`model.layers`), the way of arXiv 2205.05198, section 4,
with grouped queries, gated MLPs and without dropout.
"""

from collections import Counter
from dataclasses import dataclass

from nemo_adapt.config import ParallelConfig, TrainConfig
from nemo_adapt.families.family import ALIBI, AROUND, HEAD, SHARED, WHOLE, Shape
from nemo_adapt.layout import engine_fits
from nemo_adapt.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained
from nemo_adapt.plan import model

NORMS = {AROUND: 4, SHARED: 1}
"""Norms of a layer, where they are not two."""
ALIBI_COLUMNS = 8
"""That queries, keys and values get for the bias of the scores, where heads are multiples of 8 (`model.positions`)."""


def bytes_of(precision: str) -> int:
    """Bytes of a weight or activation."""
    return 2 if precision == "bf16" else 4


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
    on_gpu: bool

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
        return self.size * self.tokens * self.shape.hidden / self.cut

    @property
    def cut(self) -> int:
        """By how much sequences are cut over TP."""
        return self.parallel.tp if self.parallel.sequence else 1

    def norm(self, columns: float, frozen: bool = False) -> float:
        """What a norm over ``columns`` keeps, its output apart."""
        if self.shape.transformer.get("normalization") == "LayerNorm":
            return self.size * self.tokens * columns
        if self.on_gpu:
            wide = self.shape.transformer.get("layernorm_zero_centered_gamma")  # taken in fp32, see model.layers
            return (4 if wide else self.size) * self.tokens * columns
        return (4 if frozen else 8) * self.tokens * columns

    @property
    def gathers(self) -> bool:
        """Whether ranks that share a sequence gather its keys and values (`model.context`); in Transformer Engine's
        layers these go around (its AttnFuncWithCPAndKVP2P)."""
        return self.parallel.cp > 1 and not (self.on_gpu and engine_fits(self.shape, self.train, self.parallel))

    @property
    def seen(self) -> float:
        """Keys that are there for a query in a kernel: all, or those up to the end of its chunk, in the mean."""
        cp, length = self.parallel.cp, self.train.seq_length
        return length * (2 * cp + 1) / (4 * cp) if self.gathers else length

    def attention(self, window: int, frozen: bool) -> float:
        """Queries, keys, values, what they attend to, and their norms; tokens see ``window`` positions."""
        shape, tp, cp, length = self.shape, self.parallel.tp, self.parallel.cp, self.train.seq_length
        queries, keys = shape.query_rows / tp, max(shape.kv_rows / tp, shape.head_dim)
        # Keys are copied for each of the two chunks: so many for a token of this rank.
        times = cp + 0.5 if self.gathers else 1.0
        apart = self.train.reset_attention
        joined = queries if self.gathers or apart else 0.0  # what chunks or documents attend to, as one tensor
        if shape.attention_cap:  # written out, see model.layers: keys and values for every head, three kinds of scores
            bytes_of_token = self.size * ((2 + 2 * times) * queries + joined) + 8 * self.seen * shape.heads / tp
        elif shape.positions == ALIBI and not shape.rotary:
            wide = queries + ALIBI_COLUMNS * shape.heads / tp  # three of them, their result, and that without the bias
            bytes_of_token = self.size * ((2 + 2 * times) * wide + queries) + 4 * shape.heads / tp
        else:
            # Values are a part of what the three are computed as; only where ranks share a sequence are they a copy.
            mixed = (shape.query_rows + 2 * shape.kv_rows) / (tp if shape.kv_heads >= tp else 1)
            rotated = queries + keys if shape.rotary else 0
            if self.gathers:
                mixed = 2 * cp * keys + (0 if shape.rotary else mixed)
                rotated = queries if shape.rotary else 0
            elif cp > 1 and shape.rotary and not shape.qk_norm:
                mixed = keys
            bytes_of_token = self.size * (mixed + rotated + queries + joined) + 4 * shape.heads / tp
        if shape.qk_norm == HEAD:
            bytes_of_token += self.norm(queries + keys, frozen) / self.tokens
        if shape.qk_norm == WHOLE:  # fp32, see model.layers
            bytes_of_token += 8 * (queries + keys)
        slides = 0 < window < length
        # Without a GPU a kernel for fewer queries than keys makes a mask.
        makes = slides or bool(shape.attention_cap) or (self.gathers and not self.on_gpu)
        masks = makes * (self.train.micro_batch if apart else 1)
        of_mask = (1 if shape.attention_cap else self.size) * length / cp * self.seen
        return self.tokens * bytes_of_token + masks * of_mask

    def angles(self) -> float:
        """Rotary angles, in fp32, which all layers of a chunk keep together."""
        if not self.shape.rotary:
            return 0.0
        places = self.tokens / (1 if self.train.reset_positions else self.train.micro_batch)
        return 4 * places * self.shape.head_dim * self.shape.rotary.share

    def mlp(self, frozen: bool) -> float:
        """Between the two products: gate and up, and their product, as `model.gated` and Megatron's fused kernel do."""
        wide = 3 if self.shape.transformer.get("gated_linear_unit") else 2
        return self.size * self.tokens * (wide - frozen) * self.shape.ffn / self.parallel.tp

    def kept(self, window: int, frozen: bool = False) -> float:
        """All that a layer keeps whose tokens see ``window`` positions (0: all)."""
        columns = self.shape.hidden / self.cut
        norms = NORMS.get(self.shape.norms, 2) * self.norm(columns, frozen)
        inputs = 0 if frozen else (1 if self.shape.norms == SHARED else 2) * self.stream
        return norms + inputs + self.attention(window, frozen) + self.mlp(frozen)

    def head(self) -> float:
        """The final norm and the output layer's input."""
        return self.norm(self.shape.hidden / self.cut) + self.stream

    def gradients(self) -> float:
        """What a layer's backward pass needs at once, as it begins: gradients of the MLP's product and of a weight.

        With gate and up, that of both then takes the place of the product, and their weight's comes once they are
        freed.
        """
        ffn, hidden = self.shape.ffn / self.parallel.tp, self.shape.hidden
        streams = 2 * self.tokens * hidden / self.cut
        begin = ffn * (self.tokens + hidden) + streams
        gated = bool(self.shape.transformer.get("gated_linear_unit"))
        of_both = gated * max(ffn * 2 * self.tokens + streams, ffn * (2 * hidden - self.tokens))
        return self.size * max(begin, of_both)


def of_layers(layer: Layer, stage: int, what: Trained) -> tuple[float, float]:
    """Bytes that the layers of a stage keep of one micro batch, and what their backward pass needs besides."""
    parallel, shape = layer.parallel, layer.shape
    everything, tables = ALL in what.kinds, bool(what.kinds & {EMBEDDINGS, NEW_ROWS})
    whole = everything or tables or (layer.train.recompute and what.layers)
    first = 0 if whole else min(what.layers, default=shape.layers)
    ours = [number for number in model.layers_of(stage, shape.layers, parallel) if number >= first]
    if not ours:
        return 0.0, 0.0
    sent = layer.stream * (parallel.virtual - (stage == parallel.pp - 1))  # outputs of all chunks but the last
    sent += layer.angles() * parallel.virtual  # each chunk picks its own
    sent += layer.norm(shape.hidden / layer.cut) if shape.embedding_norm and stage == 0 else 0.0
    if layer.train.recompute:
        return len(ours) * layer.stream + sent, layer.kept(_window(shape, ours[0])) + layer.gradients()
    kinds = Counter((_window(shape, number), not everything and number not in what.layers) for number in ours)
    kept = sum(count * layer.kept(window, frozen) for (window, frozen), count in kinds.items())
    return kept + sent, layer.gradients()


def _window(shape: Shape, number: int) -> int:
    return shape.windows[number] if shape.windows else 0
