"""Building blocks for the tables of decoder-only models.

Megatron's keys are those of its Transformer Engine layers, with or without that library; those of norms after attention
and MLP are Megatron-Bridge's (``post_layernorm``).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from nemo_adapt.families.family import EMBEDDING, LM_HEAD, OUTPUT_LAYER, Entry, Rows, Shape

LAYER = "model.layers.{layer}"
MEGATRON = "decoder.layers"
ATTENTION, PROJECTION = f"{MEGATRON}.self_attention.linear_qkv", f"{MEGATRON}.self_attention.linear_proj"
FC1, FC2 = f"{MEGATRON}.mlp.linear_fc1", f"{MEGATRON}.mlp.linear_fc2"
QUERY_NORM, KEY_NORM = f"{MEGATRON}.self_attention.q_layernorm.weight", f"{MEGATRON}.self_attention.k_layernorm.weight"
BEFORE_ATTENTION, AFTER_ATTENTION = f"{ATTENTION}.layer_norm_weight", f"{PROJECTION}.post_layernorm.weight"
BEFORE_MLP, AFTER_MLP = f"{FC1}.layer_norm_weight", f"{FC2}.post_layernorm.weight"
EMBEDDING_NORM, FINAL_NORM = "embedding.layernorm.weight", "decoder.final_layernorm.weight"
NORMS_BEFORE = {BEFORE_ATTENTION: "input_layernorm", BEFORE_MLP: "post_attention_layernorm"}
NORMS_AFTER = {AFTER_ATTENTION: "post_attention_layernorm", AFTER_MLP: "post_feedforward_layernorm"}
QKV = tuple(f"{LAYER}.self_attn.{name}_proj" for name in "qkv")
GATE_UP = tuple(f"{LAYER}.mlp.{name}_proj.weight" for name in ("gate", "up"))

OUR_NORMS = {f"{ATTENTION}.layer_norm_": "input_layernorm.", f"{FC1}.layer_norm_": "pre_mlp_layernorm."}
"""Beginnings of keys of norms -> of their names in a layer that is not Transformer Engine's."""

PREFIXES_OF_TEXT = {"language_model.": "", "model.language_model.": "model."}
"""``Family.nested`` of a language model beside an image tower, as transformers has saved them over the years."""
OTHER_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")
"""``Family.left_out`` of such a model."""

Place = tuple[str, int]
"""A Hugging Face tensor and the row at which a part begins in it."""


def one(key: str, name: str, *shape: int, stacked: bool = True, transposed: bool = False) -> Entry:
    """Return the entry of a Megatron tensor that is one Hugging Face tensor under another name."""
    return Entry(key, shape, (Rows(name, 0, shape[0], transposed),), stacked)


def linear(key: str, name: str, outputs: int, inputs: int, transposed: bool = False) -> list[Entry]:
    """Return the entries of a projection with a bias."""
    return [
        one(f"{key}.weight", f"{name}.weight", outputs, inputs, transposed=transposed),
        one(f"{key}.bias", f"{name}.bias", outputs),
    ]


def layer_norm(key: str, name: str, hidden: int, stacked: bool = True) -> list[Entry]:
    """Return the entries of a LayerNorm; ``key`` is that of its weight."""
    return [
        one(key, f"{name}.weight", hidden, stacked=stacked),
        one(f"{key.removesuffix('weight')}bias", f"{name}.bias", hidden, stacked=stacked),
    ]


def joined(key: str, names: Sequence[str], rows: int, columns: int) -> Entry:
    """Return the entry that concatenates Hugging Face tensors of ``rows`` rows each (gate and up)."""
    return Entry(key, (rows * len(names), columns), tuple(Rows(name, 0, rows) for name in names))


def up(shape: Shape) -> Entry:
    """Return the entry of the first matrix of an MLP without a gate."""
    return one(f"{FC1}.weight", f"{LAYER}.mlp.up_proj.weight", shape.ffn, shape.hidden)


def gate_up(shape: Shape) -> Entry:
    """Return the entry of gate and up where they are one tensor, as Megatron stores them."""
    return one(f"{FC1}.weight", f"{LAYER}.mlp.gate_up_proj.weight", 2 * shape.ffn, shape.hidden)


def qkv_bias(shape: Shape) -> Entry:
    """Return the entry of the biases of queries, keys and values."""
    return grouped_qkv(f"{ATTENTION}.bias", [(f"{name}.bias", 0) for name in QKV], shape)


def norm_biases(shape: Shape) -> list[Entry]:
    """Return the entries of the biases of LayerNorms with Llama's names."""
    norms = [*((key, f"{LAYER}.{name}", True) for key, name in NORMS_BEFORE.items()), (FINAL_NORM, "model.norm", False)]
    return [layer_norm(key, name, shape.hidden, stacked=stacked)[1] for key, name, stacked in norms]


def output_table(shape: Shape, name: str = LM_HEAD) -> list[Entry]:
    """Return the entry of the output table, none if it is tied to the input table."""
    return [] if shape.tied else [one(OUTPUT_LAYER, name, shape.vocab, shape.hidden, stacked=False)]


def by_head(shape: Shape, layer: str, attention: str) -> list[Entry]:
    """Return the entries of a layer with the names that BLOOM and GPT-NeoX share, but for its ``attention``.

    ``query_key_value`` already has Megatron's layout: for each head its query, key and value.
    """
    hidden, ffn = shape.hidden, shape.ffn
    return [
        *layer_norm(BEFORE_ATTENTION, f"{layer}.input_layernorm", hidden),
        *linear(ATTENTION, f"{layer}.{attention}.query_key_value", 3 * hidden, hidden),
        *linear(PROJECTION, f"{layer}.{attention}.dense", hidden, hidden),
        *layer_norm(BEFORE_MLP, f"{layer}.post_attention_layernorm", hidden),
        *linear(FC1, f"{layer}.mlp.dense_h_to_4h", ffn, hidden),
        *linear(FC2, f"{layer}.mlp.dense_4h_to_h", hidden, ffn),
    ]


def grouped_qkv(
    key: str, places: Sequence[Place], shape: Shape, columns: Sequence[int] = (), transposed: bool = False
) -> Entry:
    """Return the entry of query, key and value projections as Megatron stores them.

    That is, for each KV group its query heads, its key, its value. ``places``: where query, key and value begin;
    ``columns`` is empty for a bias.
    """
    size, heads = shape.head_dim, shape.heads // shape.kv_heads
    rows = tuple(
        Rows(name, first + group * tall, first + (group + 1) * tall, transposed)
        for group in range(shape.kv_heads)
        for (name, first), tall in zip(places, (heads * size, size, size), strict=True)
    )
    return Entry(key, (shape.query_rows + 2 * shape.kv_rows, *columns), rows)


def llama_like(
    shape: Shape,
    norms: Mapping[str, str] = NORMS_BEFORE,
    qkv: Entry | None = None,
    fc1: Entry | None = None,
    fc2: Entry | None = None,
) -> list[Entry]:
    """Return the table of a model with Llama's names; ``qkv``, ``fc1`` and ``fc2`` replace entries that are stored
    differently.

    ``norms``: Megatron's key -> the name of the layer's norm.
    """
    hidden, ffn = shape.hidden, shape.ffn
    return [
        one(EMBEDDING, "model.embed_tokens.weight", shape.vocab, hidden, stacked=False),
        *(one(key, f"{LAYER}.{name}.weight", hidden) for key, name in norms.items()),
        qkv or grouped_qkv(f"{ATTENTION}.weight", [(f"{name}.weight", 0) for name in QKV], shape, [hidden]),
        one(f"{PROJECTION}.weight", f"{LAYER}.self_attn.o_proj.weight", hidden, shape.query_rows),
        fc1 or joined(f"{FC1}.weight", GATE_UP, ffn, hidden),
        fc2 or one(f"{FC2}.weight", f"{LAYER}.mlp.down_proj.weight", hidden, ffn),
        one(FINAL_NORM, "model.norm.weight", hidden, stacked=False),
        *output_table(shape),
    ]


def qk_norms(query: int | Sequence[int], key: int | Sequence[int]) -> list[Entry]:
    """Return the entries of the norms of queries and keys, with that many weights, or weights of that shape."""
    sizes = {QUERY_NORM: ("q", query), KEY_NORM: ("k", key)}
    return [
        one(place, f"{LAYER}.self_attn.{name}_norm.weight", *([size] if isinstance(size, int) else size))
        for place, (name, size) in sizes.items()
    ]


def parameter_names(table: Iterable[Entry], layers: int) -> Iterator[str]:
    """Yield the names of a model's parameters, with layers counted from 0, as all pipeline stages together have them.

    Norms before attention and MLP have two: with Transformer Engine's layers, and without.
    """
    for entry in table:
        if entry.rows[0].is_constant:
            continue
        keys = [entry.key]
        for begin, ours in OUR_NORMS.items():
            if entry.key.startswith(begin):
                keys.append(f"{MEGATRON}.{ours}{entry.key.removeprefix(begin)}")
        for key in keys:
            yield from (key.replace(MEGATRON, f"{MEGATRON}.{layer}") for layer in range(layers if entry.stacked else 1))
