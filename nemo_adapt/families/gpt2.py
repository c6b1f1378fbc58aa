"""GPT-2: learned positions, LayerNorm, biases everywhere, and matrices that are stored transposed."""

from nemo_adapt.families import settings
from nemo_adapt.families.entries import (
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_MLP,
    FC1,
    FC2,
    FINAL_NORM,
    PROJECTION,
    grouped_qkv,
    layer_norm,
    linear,
    one,
    output_table,
)
from nemo_adapt.families.family import EMBEDDING, Entry, Family, HfConfig, Shape, require

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
"""``activation_function`` -> ours; GPT-SW3 and Cerebras-GPT have the last."""
COVERED = {
    "activation_function": tuple(ACTIVATIONS),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "add_cross_attention": (False, None),
}
GENERAL = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
LAYER = "transformer.h.{layer}"


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a GPT-2 config.json. Dropout is left out, as for all families."""
    require(config, "GPT-2", COVERED)
    config = settings.with_own_names(config, GENERAL)
    hidden, heads = config["n_embd"], config["n_head"]
    return Shape(
        layers=config["n_layer"],
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=config.get("n_inner") or 4 * hidden,
        vocab=config["vocab_size"],
        max_positions=config["n_positions"],
        tied=bool(config.get("tie_word_embeddings", True)),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        activation=ACTIVATIONS[config.get("activation_function", "gelu_new")],
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return the table; ``c_attn`` holds queries, keys and values next to each other."""
    hidden, ffn = shape.hidden, shape.ffn
    qkv = [(f"{LAYER}.attn.c_attn.{{}}", part * hidden) for part in range(3)]
    weights, biases = ([(name.replace("{}", kind), first) for name, first in qkv] for kind in ("weight", "bias"))
    return [
        one(EMBEDDING, "transformer.wte.weight", shape.vocab, hidden, stacked=False),
        one(
            "embedding.position_embeddings.weight", "transformer.wpe.weight", shape.max_positions, hidden, stacked=False
        ),
        *layer_norm(BEFORE_ATTENTION, f"{LAYER}.ln_1", hidden),
        grouped_qkv(f"{ATTENTION}.weight", weights, shape, [hidden], transposed=True),
        grouped_qkv(f"{ATTENTION}.bias", biases, shape),
        *linear(PROJECTION, f"{LAYER}.attn.c_proj", hidden, hidden, transposed=True),
        *layer_norm(BEFORE_MLP, f"{LAYER}.ln_2", hidden),
        *linear(FC1, f"{LAYER}.mlp.c_fc", ffn, hidden, transposed=True),
        *linear(FC2, f"{LAYER}.mlp.c_proj", hidden, ffn, transposed=True),
        *layer_norm(FINAL_NORM, "transformer.ln_f", hidden, stacked=False),
        *output_table(shape),
    ]


GPT2 = Family(
    "gpt2",
    ("GPT2LMHeadModel",),
    shape,
    table,
    prefix="transformer.",
    computed=(".attn.bias", ".attn.masked_bias"),
)
