"""GPT-2: learned positions, LayerNorm, biases everywhere, and matrices that are stored transposed."""

from nemo_adapt.families.entries import ATTENTION, BEFORE_ATTENTION, BEFORE_MLP, FC1, FC2, PROJECTION, grouped_qkv, one
from nemo_adapt.families.family import EMBEDDING, OUTPUT_LAYER, Entry, Family, HfConfig, Shape, require

COVERED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "reorder_and_upcast_attn": (False, None),
    "add_cross_attention": (False, None),
}
LAYER = "transformer.h.{layer}"


def shape(config: HfConfig) -> Shape:
    """Megatron's settings for a GPT-2 config.json. Its dropout is left out, as for all families."""
    require(config, "GPT-2", COVERED)
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
        activation="gelu_tanh",
        transformer={"normalization": "LayerNorm", "gated_linear_unit": False, "add_bias_linear": True},
    )


def table(shape: Shape) -> list[Entry]:
    """The table; ``c_attn`` holds queries, keys and values side by side."""
    hidden, ffn, final = shape.hidden, shape.ffn, "decoder.final_layernorm"
    qkv = [(f"{LAYER}.attn.c_attn.{{}}", part * hidden) for part in range(3)]
    weights, biases = ([(name.replace("{}", kind), first) for name, first in qkv] for kind in ("weight", "bias"))
    rows = [
        one(EMBEDDING, "transformer.wte.weight", shape.vocab, hidden, stacked=False),
        one(
            "embedding.position_embeddings.weight", "transformer.wpe.weight", shape.max_positions, hidden, stacked=False
        ),
        grouped_qkv(f"{ATTENTION}.weight", weights, shape, [hidden], turned=True),
        grouped_qkv(f"{ATTENTION}.bias", biases, shape),
        *_linear(PROJECTION, f"{LAYER}.attn.c_proj", hidden, hidden),
        *_linear(FC1, f"{LAYER}.mlp.c_fc", ffn, hidden),
        *_linear(FC2, f"{LAYER}.mlp.c_proj", hidden, ffn),
        one(f"{final}.weight", "transformer.ln_f.weight", hidden, stacked=False),
        one(f"{final}.bias", "transformer.ln_f.bias", hidden, stacked=False),
    ]
    for key, name in ((BEFORE_ATTENTION, "ln_1"), (BEFORE_MLP, "ln_2")):
        rows.append(one(key, f"{LAYER}.{name}.weight", hidden))
        rows.append(one(key.replace("norm_weight", "norm_bias"), f"{LAYER}.{name}.bias", hidden))
    if not shape.tied:
        rows.append(one(OUTPUT_LAYER, "lm_head.weight", shape.vocab, hidden, stacked=False))
    return rows


def _linear(key: str, name: str, outputs: int, inputs: int) -> list[Entry]:
    return [
        one(f"{key}.weight", f"{name}.weight", outputs, inputs, turned=True),
        one(f"{key}.bias", f"{name}.bias", outputs),
    ]


GPT2 = Family(
    "gpt2",
    ("GPT2LMHeadModel",),
    shape,
    table,
    prefix="transformer.",
    computed=(".attn.bias", ".attn.masked_bias"),
)
