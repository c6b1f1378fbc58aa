"""Phi 1 to 2: parallel attention and MLP after one LayerNorm, partial rotary positions, an output bias."""

from nemo_adapt.families import settings
from nemo_adapt.families.entries import (
    ATTENTION,
    BEFORE_ATTENTION,
    FC1,
    FC2,
    FINAL_NORM,
    LAYER,
    PROJECTION,
    QKV,
    grouped_qkv,
    layer_norm,
    linear,
    one,
    output_table,
)
from nemo_adapt.families.family import (
    EMBEDDING,
    OUTPUT_BIAS,
    SHARED,
    Entry,
    Family,
    HfConfig,
    Shape,
    require,
)

COVERED = {"hidden_act": ("gelu_new", "gelu_pytorch_tanh"), "qk_layernorm": (False, None)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Phi config.json. Dropout is left out, as for all families."""
    require(config, "Phi", COVERED)
    return settings.llama_like(
        {"partial_rotary_factor": 0.5, **config},  # transformers' default for this family
        "Phi",
        norm_epsilon=config.get("layer_norm_eps", 1e-5),
        activation="gelu_tanh",
        output_bias=True,
        norms=SHARED,
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return the table; a layer's only norm has the key of Megatron's norm before attention."""
    hidden, ffn = shape.hidden, shape.ffn
    return [
        one(EMBEDDING, "model.embed_tokens.weight", shape.vocab, hidden, stacked=False),
        *layer_norm(BEFORE_ATTENTION, f"{LAYER}.input_layernorm", hidden),
        grouped_qkv(f"{ATTENTION}.weight", [(f"{name}.weight", 0) for name in QKV], shape, [hidden]),
        grouped_qkv(f"{ATTENTION}.bias", [(f"{name}.bias", 0) for name in QKV], shape),
        *linear(PROJECTION, f"{LAYER}.self_attn.dense", hidden, shape.query_rows),
        *linear(FC1, f"{LAYER}.mlp.fc1", ffn, hidden),
        *linear(FC2, f"{LAYER}.mlp.fc2", hidden, ffn),
        *layer_norm(FINAL_NORM, "model.final_layernorm", hidden, stacked=False),
        one(OUTPUT_BIAS, "lm_head.bias", shape.vocab, stacked=False),
        *output_table(shape),
    ]


PHI = Family("phi", ("PhiForCausalLM",), shape, table)
