"""BLOOM: ALiBi, a norm after the input table, LayerNorm, biases everywhere, queries, keys and values in one tensor."""

from nemo_adapt.families import settings
from nemo_adapt.families.entries import (
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_MLP,
    EMBEDDING_NORM,
    FC1,
    FC2,
    FINAL_NORM,
    PROJECTION,
    layer_norm,
    linear,
    one,
)
from nemo_adapt.families.family import ALIBI, EMBEDDING, LM_HEAD, OUTPUT_LAYER, Entry, Family, HfConfig, Shape, require

COVERED = {"apply_residual_connection_post_layernorm": (False, None)}
GENERAL = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "n_embed": "hidden_size"}
LAYER = "transformer.h.{layer}"


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a BLOOM config.json, also with the field names of the published files.

    Dropout is left out, as for all families. ``slow_but_exact`` only changes the order of sums.
    """
    require(config, "BLOOM", COVERED)
    config = settings.with_own_names(config, GENERAL)
    hidden, heads = config["hidden_size"], config["n_head"]
    return Shape(
        layers=config["n_layer"],
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=4 * hidden,
        vocab=config["vocab_size"],
        max_positions=config.get("seq_length", 2048),
        tied=bool(config.get("tie_word_embeddings", True)),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        positions=ALIBI,
        activation="gelu_tanh",
        embedding_norm=True,
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return the table; ``query_key_value`` already has Megatron's layout: for each head its query, key and value."""
    hidden, ffn = shape.hidden, shape.ffn
    rows = [
        one(EMBEDDING, "transformer.word_embeddings.weight", shape.vocab, hidden, stacked=False),
        *layer_norm(EMBEDDING_NORM, "transformer.word_embeddings_layernorm", hidden, stacked=False),
        *layer_norm(BEFORE_ATTENTION, f"{LAYER}.input_layernorm", hidden),
        *linear(ATTENTION, f"{LAYER}.self_attention.query_key_value", 3 * hidden, hidden),
        *linear(PROJECTION, f"{LAYER}.self_attention.dense", hidden, hidden),
        *layer_norm(BEFORE_MLP, f"{LAYER}.post_attention_layernorm", hidden),
        *linear(FC1, f"{LAYER}.mlp.dense_h_to_4h", ffn, hidden),
        *linear(FC2, f"{LAYER}.mlp.dense_4h_to_h", hidden, ffn),
        *layer_norm(FINAL_NORM, "transformer.ln_f", hidden, stacked=False),
    ]
    if not shape.tied:
        rows.append(one(OUTPUT_LAYER, LM_HEAD, shape.vocab, hidden, stacked=False))
    return rows


BLOOM = Family("bloom", ("BloomForCausalLM",), shape, table, prefix="transformer.")
