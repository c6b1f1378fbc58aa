"""A model family is a table of which Hugging Face tensor becomes which Megatron tensor, and the model's settings.

Every Megatron tensor is an ordered list of row ranges of Hugging Face tensors. A renamed tensor is one whole range; QKV
interleaved by group, and concatenated gate and up, are several; for a matrix that is stored transposed they are ranges
of columns. Import and export use the same list, so they cannot disagree.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.families.types import checked

HfConfig = Mapping[str, Any]
"""The contents of a config.json."""

EMBEDDING = "embedding.word_embeddings.weight"
"""Megatron's key of the input table, [vocab, hidden]."""
OUTPUT_LAYER = "output_layer.weight"
"""Megatron's key of the output table, [vocab, hidden]; absent where it is tied to the input table."""
OUTPUT_BIAS = "output_layer.bias"
"""Megatron's key of the output layer's bias, [vocab], in families that have one."""
TABLES = (EMBEDDING, OUTPUT_LAYER, OUTPUT_BIAS)
"""Keys of the tensors with a row for each token, which may have padded rows."""
LM_HEAD = "lm_head.weight"
"""Hugging Face's name of the output table, unless a family has another (``Family.output_table``)."""
INPUT, OUTPUT = "input", "output"
"""The two tables' names in settings: the embedding and the output layer."""
BEFORE, AFTER, AROUND, SHARED, BESIDE = "before", "after", "around", "shared", "beside"
HEAD, ROTATED, OWN, WHOLE = "head", "rotated", "own", "whole"
XIELU = "xielu"
LEARNED, SINUSOIDAL, ALIBI = "learned", "sinusoidal", "alibi"


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of the Hugging Face tensor ``name`` (``{layer}`` stands for the layer number).

    ``transposed``: the tensor is stored transposed, and these are its columns. ``is_constant``: it is one number
    without dimensions, which is not trained.
    """

    name: str
    start: int
    stop: int
    transposed: bool = False
    is_constant: bool = False


@dataclass(frozen=True)
class Entry:
    """One Megatron tensor: its key, its shape, and where its rows come from, in order.

    ``stacked`` tensors exist once a layer; their checkpoint key has the layers as an additional first dimension.
    """

    key: str
    shape: tuple[int, ...]
    rows: tuple[Rows, ...]
    stacked: bool = True

    def global_shape(self, layers: int) -> tuple[int, ...]:
        """Return its shape in the checkpoint of a model of so many layers."""
        return (layers, *self.shape) if self.stacked else self.shape

    def sources(self, start: int, stop: int) -> list[tuple[Rows, slice]]:
        """Return where this tensor's rows ``start`` to ``stop`` come from, in order.

        Each item is a range of a Hugging Face tensor, and which of the rows it makes, counted from ``start``.
        """
        found, first = [], 0
        for rows in self.rows:
            begin, end = max(start, first), min(stop, first + rows.stop - rows.start)
            if begin < end:
                source = replace(rows, start=rows.start + begin - first, stop=rows.start + end - first)
                found.append((source, slice(begin - start, end - start)))
            first += rows.stop - rows.start
        return found


@dataclass(frozen=True)
class Shape:
    """What the table and the model builder need to know about a model, in Megatron's terms."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    """Rows of the tables, without padded rows."""
    max_positions: int
    tied: bool
    norm_epsilon: float
    rotary: "Rotary | None" = None
    """Rotary positions; ``None``: the model has other ``positions``."""
    rotaries: "tuple[Rotary | None, ...]" = ()
    """Rotary positions of each layer, with the same ``share`` and pairs of columns; ``None``: the layer has no
    positions at all. Empty: ``rotary`` in every layer."""
    positions: str = LEARNED
    """Positions of a model without rotary ones: a ``LEARNED`` table of ``max_positions`` rows, ``SINUSOIDAL`` rows
    added to the embeddings, or ``ALIBI``, a bias of the scores."""
    activation: str = "silu"
    """``silu``, ``gelu``, ``gelu_tanh``, ``squared_relu`` or ``XIELU``, which has numbers in every layer."""
    windows: tuple[int, ...] = ()
    """Positions that a token sees, itself included, for each layer; 0: all. Empty: all in every layer."""
    attention_scale: float | None = None
    """Factor on attention scores; ``None``: 1 / sqrt(head_dim)."""
    attention_cap: float = 0.0
    """Attention scores x become cap * tanh(x / cap); 0: no cap."""
    logit_cap: float = 0.0
    """The same for logits."""
    logit_scale: float = 1.0
    """Factor on logits."""
    residual_scale: float = 1.0
    """Factor on the outputs of attention and MLP before they join the residual stream."""
    embedding_scale: float = 1.0
    """Factor on rows of the input table when they are looked up."""
    rounds_scale: bool = False
    """Whether that factor is first rounded to the dtype of the rows."""
    embedding_norm: bool = False
    """Whether embeddings are normed before the first layer."""
    output_bias: bool = False
    """Whether the output layer has a bias, one number per row."""
    norms: str = BEFORE
    """Where a layer's norms are: ``BEFORE`` attention and MLP, ``AFTER`` them, or ``AROUND`` (both). Where attention
    and MLP run in parallel: one ``SHARED`` norm of their input, or two, ``BESIDE`` each other."""
    norm_bias: bool = True
    """Whether norms have biases, if they are LayerNorms."""
    longest_sample: int = 0
    """Longest sample for which our layers compute what the model does; 0: any."""
    qk_norm: str = ""
    """Norm of queries and keys: empty (none), ``HEAD`` (each head separately), ``ROTATED`` (the same, but after they
    are rotated), ``OWN`` (a LayerNorm of each head, with weights of its own) or ``WHOLE`` (all heads together)."""
    transformer: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of ``TransformerConfig``."""

    @property
    def is_plain(self) -> bool:
        """Whether Transformer Engine's layers implement everything that the model needs, but for ``windows``."""
        needs_ours = self.attention_cap or self.positions == ALIBI or not self.norm_bias
        needs_ours = needs_ours or self.qk_norm in (ROTATED, OWN, WHOLE) or self.activation == XIELU
        needs_ours = needs_ours or (self.rotated < self.head_dim and set(self.magnitudes) != {1.0})
        return self.norms == BEFORE and not needs_ours and len(set(self.attention_scales)) == 1

    @property
    def attention_scales(self) -> tuple[float | None, ...]:
        """``attention_scale`` of each layer, with the magnitude of its queries and of its keys."""
        plain = self.attention_scale or self.head_dim**-0.5
        return tuple(self.attention_scale if each == 1.0 else plain * each**2 for each in self.magnitudes)

    @property
    def magnitudes(self) -> tuple[float, ...]:
        """Factor on rotated columns of queries, and of keys, in each layer."""
        rotaries = self.rotaries or (self.rotary,) * self.layers
        return tuple(rotary.magnitude if rotary else 1.0 for rotary in rotaries)

    @property
    def rotated(self) -> int:
        """Columns of a head that are rotated, the same number in all layers that rotate."""
        return int(self.head_dim * self.rotary.share) if self.rotary else 0

    @property
    def kinds_of_rotary(self) -> "tuple[Rotary, ...]":
        """The different rotary positions of its layers, ``rotary`` first."""
        return tuple(dict.fromkeys(each for each in (self.rotary, *self.rotaries) if each))

    @property
    def query_rows(self) -> int:
        """Rows of the query projection."""
        return self.heads * self.head_dim

    @property
    def kv_rows(self) -> int:
        """Rows of the key projection, and of the value projection."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Rotary:
    """Rotary positions: ``base`` (theta), the ``share`` of each head's columns that is rotated, and their scaling."""

    base: float
    share: float = 1.0
    scaling: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Empty, ``{"linear": factor}``, ``{"each": a factor for each pair of columns}``, or the numbers of Llama 3 or of
    YaRN (see ``model.rotary``)."""
    magnitude: float = 1.0
    """Factor on rotated columns of queries and keys (the attention factor of YaRN and LongRoPE)."""
    interleaved: bool = False
    """Whether a head's columns turn in pairs that are next to each other, not half of the rotated ones apart."""


@dataclass(frozen=True)
class Family:
    """A model family: how to read its config.json, and its table."""

    name: str
    """``model_type`` in config.json."""
    architectures: tuple[str, ...]
    """Values of ``architectures`` in config.json."""
    reads: Callable[[HfConfig], Shape]
    """Makes a ``Shape`` from a config.json."""
    entries: Callable[[Shape], list[Entry]]
    prefix: str = ""
    """Prefix of tensor names, which published files may leave out."""
    output_table: str = LM_HEAD
    """Name of the output table."""
    computed: tuple[str, ...] = ("rotary_emb.inv_freq",)
    """Suffixes of tensor names in old checkpoints that models compute instead of loading."""
    inside: tuple[str, ...] = ()
    """Architectures that contain a model of this family and also read images; their other parts are left out."""
    nested: Mapping[str, str] = field(default_factory=dict)
    """A prefix of tensor names that some folders have -> what it is in the table: of a language model inside one of
    these, or of another version's names."""
    left_out: tuple[str, ...] = ()
    """Of these: prefixes of the names of tensors that the language model does not have."""

    def shape(self, config: HfConfig) -> Shape:
        """Return the shape of a config.json's model; ``UserError`` if a field is missing, not covered or mistyped, and
        for a quantized model."""
        if quantized := config.get("quantization_config"):
            kind = quantized.get("quant_method") if isinstance(quantized, Mapping) else quantized
            raise UserError(
                f"config.json: quantization_config ({kind}): quantized models are not covered: give the model in bf16, "
                "fp16 or fp32; if its weights are, delete quantization_config"
            )
        try:
            return self.reads(checked(config))
        except KeyError as error:
            raise UserError(f"config.json has no {error.args[0]}, which a {self.name} model needs") from None

    def names(self, stored: Collection[str]) -> dict[str, str]:
        """Return name in a model folder -> name in the table, for all tensors that belong to the language model.

        If no name begins with ``prefix``, it is put before all but the output layer's.
        """
        own = {}
        for name in stored:
            if not name.startswith(self.left_out):
                found = next((prefix for prefix in self.nested if name.startswith(prefix)), "")
                own[name] = self.nested.get(found, "") + name.removeprefix(found)
        if any(name.startswith(self.prefix) for name in own.values()):
            return own
        return {name: each if each == self.output_table else self.prefix + each for name, each in own.items()}


def hf_shapes(entries: Iterable[Entry], layers: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all Hugging Face tensors in a table, layer by layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for entry in entries:
            for rows in entry.rows:
                name = rows.name.format(layer=layer)
                tall = max(rows.stop, shapes.get(name, (0,))[-1 if rows.transposed else 0])
                shapes[name] = (*entry.shape[1:], tall) if rows.transposed else (tall, *entry.shape[1:])
                if rows.is_constant:
                    shapes[name] = ()
    return shapes


def require(config: HfConfig, family: str, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise ``UserError`` for a config.json whose fields have values that the family's table does not cover."""
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise UserError(
                f"config.json: {name}={config[name]!r} is not covered for {family} models "
                f"(covered: {', '.join(map(repr, values))})"
            )
