"""XGLM: sinusoidal positions, scaled embeddings, LayerNorm, biases everywhere."""

from nemo_adapt.families import settings
from nemo_adapt.families.entries import (
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_MLP,
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
    SINUSOIDAL,
    Entry,
    Family,
    HfConfig,
    Shape,
    require,
)

COVERED = {
    "activation_function": ("gelu",),
    "add_cross_attention": (False, None),
    # transformers zeroes the padding token's row of the sinusoidal table: no position uses the first two rows.
    "pad_token_id": (0, 1, None),
}
GENERAL = {"hidden_size": "d_model", "num_hidden_layers": "num_layers", "num_attention_heads": "attention_heads"}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an XGLM config.json. Dropout, also of layers, is left out, as for all families."""
    require(config, "XGLM", COVERED)
    config = settings.with_own_names(config, GENERAL)
    hidden, heads = config["d_model"], config["attention_heads"]
    return Shape(
        layers=config["num_layers"],
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=config["ffn_dim"],
        vocab=config["vocab_size"],
        max_positions=config.get("max_position_embeddings", 2048),
        tied=bool(config.get("tie_word_embeddings", True)),
        norm_epsilon=1e-5,  # torch's default: config.json has none
        positions=SINUSOIDAL,
        activation="gelu",
        embedding_scale=hidden**0.5 if config.get("scale_embedding", True) else 1.0,
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return the table; ``final_layer_norm`` is a layer's norm before the MLP, ``layer_norm`` the model's last."""
    hidden, ffn = shape.hidden, shape.ffn
    return [
        one(EMBEDDING, "model.embed_tokens.weight", shape.vocab, hidden, stacked=False),
        *layer_norm(BEFORE_ATTENTION, f"{LAYER}.self_attn_layer_norm", hidden),
        grouped_qkv(f"{ATTENTION}.weight", [(f"{name}.weight", 0) for name in QKV], shape, [hidden]),
        grouped_qkv(f"{ATTENTION}.bias", [(f"{name}.bias", 0) for name in QKV], shape),
        *linear(PROJECTION, f"{LAYER}.self_attn.out_proj", hidden, hidden),
        *layer_norm(BEFORE_MLP, f"{LAYER}.final_layer_norm", hidden),
        *linear(FC1, f"{LAYER}.fc1", ffn, hidden),
        *linear(FC2, f"{LAYER}.fc2", hidden, ffn),
        *layer_norm(FINAL_NORM, "model.layer_norm", hidden, stacked=False),
        *output_table(shape),
    ]


XGLM = Family("xglm", ("XGLMForCausalLM",), shape, table, computed=("embed_positions.weights",))
