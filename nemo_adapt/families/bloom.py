"""BLOOM: ALiBi, a norm after the input table, LayerNorm, biases everywhere, queries, keys and values in one tensor."""

from nemo_adapt.families import settings
from nemo_adapt.families.entries import EMBEDDING_NORM, FINAL_NORM, by_head, layer_norm, one, output_table
from nemo_adapt.families.family import ALIBI, EMBEDDING, Entry, Family, HfConfig, Shape, require

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
    """Return the table."""
    hidden = shape.hidden
    return [
        one(EMBEDDING, "transformer.word_embeddings.weight", shape.vocab, hidden, stacked=False),
        *layer_norm(EMBEDDING_NORM, "transformer.word_embeddings_layernorm", hidden, stacked=False),
        *by_head(shape, LAYER, "self_attention"),
        *layer_norm(FINAL_NORM, "transformer.ln_f", hidden, stacked=False),
        *output_table(shape),
    ]


BLOOM = Family("bloom", ("BloomForCausalLM",), shape, table, prefix="transformer.")
