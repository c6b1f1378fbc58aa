"""A model family is a table: which Hugging Face tensor becomes which Megatron tensor, and with which settings.

Every Megatron tensor is written as an ordered list of row ranges of Hugging Face tensors. Renaming is one whole
range, interleaving QKV by group and concatenating gate and up are several. The list reads in both directions, so that
import and export cannot disagree.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nemo_adapt.errors import UserError

HfConfig = Mapping[str, Any]
"""The contents of a config.json."""

EMBEDDING = "embedding.word_embeddings.weight"
"""Megatron's key of the input table, [vocab, hidden]."""
OUTPUT_LAYER = "output_layer.weight"
"""Megatron's key of the output table, [vocab, hidden]; absent where it is tied to the input table."""
OUTPUT_BIAS = "output_layer.bias"
"""Megatron's key of the output layer's bias, [vocab], in families that have one."""


@dataclass(frozen=True)
class Rows:
    """Rows ``start`` to ``stop`` of the Hugging Face tensor ``name`` (``{layer}`` stands for the layer number)."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Entry:
    """One Megatron tensor: its key, its shape, and where its rows come from, in order.

    ``stacked`` tensors exist once a layer; their checkpoint key has the layers as an additional first dimension.
    """

    key: str
    shape: tuple[int, ...]
    rows: tuple[Rows, ...]
    stacked: bool = True

    def sources(self, start: int, stop: int) -> list[tuple[Rows, int]]:
        """Where this tensor's rows ``start`` to ``stop`` come from, in order.

        Each item is a range of a Hugging Face tensor and the row, counted from ``start``, at which it begins.
        """
        found, first = [], 0
        for rows in self.rows:
            begin, end = max(start, first), min(stop, first + rows.stop - rows.start)
            if begin < end:
                part = Rows(rows.name, rows.start + begin - first, rows.start + end - first)
                found.append((part, begin - start))
            first += rows.stop - rows.start
        return found


@dataclass(frozen=True)
class Shape:
    """What the table and the model builder need to know of a model, in Megatron's terms."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    """Rows of the tables, no padding of ours."""
    max_positions: int
    tied: bool
    norm_epsilon: float
    rotary_base: float
    transformer: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of ``TransformerConfig``."""


@dataclass(frozen=True)
class Family:
    """One row of the table of families."""

    name: str
    architectures: tuple[str, ...]
    """Values of ``architectures`` in config.json."""
    shape: Callable[[HfConfig], Shape]
    entries: Callable[[Shape], list[Entry]]


def one(key: str, name: str, *shape: int, stacked: bool = True) -> Entry:
    """A Megatron tensor that is one Hugging Face tensor under another name."""
    return Entry(key, shape, (Rows(name, 0, shape[0]),), stacked)


def joined(key: str, names: tuple[str, ...], rows: int, columns: int) -> Entry:
    """A Megatron tensor made of equally tall Hugging Face tensors, one below the other (gate and up)."""
    return Entry(key, (rows * len(names), columns), tuple(Rows(name, 0, rows) for name in names))


def grouped_qkv(key: str, names: tuple[str, str, str], shape: Shape) -> Entry:
    """Query, key and value projections as Megatron stores them: per KV group its query heads, its key, its value."""
    query, key_name, value = names
    size, heads = shape.head_dim, shape.heads // shape.kv_heads
    rows: list[Rows] = []
    for group in range(shape.kv_heads):
        rows.append(Rows(query, group * heads * size, (group + 1) * heads * size))
        rows.append(Rows(key_name, group * size, (group + 1) * size))
        rows.append(Rows(value, group * size, (group + 1) * size))
    return Entry(key, ((shape.heads + 2 * shape.kv_heads) * size, shape.hidden), tuple(rows))


def hf_shapes(entries: Iterable[Entry], layers: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all Hugging Face tensors that a table speaks of, layer by layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        for entry in entries:
            for rows in entry.rows:
                name = rows.name.format(layer=layer)
                tall = max(rows.stop, shapes.get(name, (0,))[0])
                shapes[name] = (tall, *entry.shape[1:])
    return shapes


def require(config: HfConfig, family: str, allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a config.json whose fields have values that the family's table does not cover."""
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise UserError(
                f"config.json: {name}={config[name]!r} is not covered for {family} models "
                f"(covered: {', '.join(map(repr, values))})"
            )
