"""Falcon: attention and MLP in parallel, LayerNorm, no biases elsewhere, a few KV heads, rotary positions.

In the first architecture (7B) they share a norm, and all heads a key and a value. In the new one (40B, 180B) each has a
norm of its own, unless config.json says that there is one (11B).
"""

from typing import Any

from nemo_adapt.families import settings
from nemo_adapt.families.entries import (
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_MLP,
    FC1,
    FC2,
    FINAL_NORM,
    PROJECTION,
    layer_norm,
    one,
    output_table,
)
from nemo_adapt.families.family import BESIDE, EMBEDDING, SHARED, Entry, Family, HfConfig, Shape, require

COVERED: dict[str, tuple[Any, ...]] = {
    "activation": ("gelu",),
    "alibi": (False, None),
    "bias": (False, None),
    "parallel_attn": (True,),
    "num_ln_in_parallel_attn": (1, 2, None),
    "head_dim": (None,),
}
FIRST = {"multi_query": (True,), "num_ln_in_parallel_attn": (1, None)}
"""What is covered in the first architecture."""
LAYER = "transformer.h.{layer}"
TRANSFORMER = {**settings.LAYER_NORM_BIASES, "add_bias_linear": False}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Falcon config.json. Dropout is left out, as for all families."""
    require(config, "Falcon", COVERED)
    config = settings.with_own_names(config, {"n_embed": "hidden_size"})
    is_new = bool(config.get("new_decoder_architecture"))
    if not is_new:
        require(config, "Falcon without new_decoder_architecture", FIRST)
    ffn = config.get("ffn_hidden_size") or 4 * config["hidden_size"]
    return settings.llama_like(
        {**config, "num_key_value_heads": config.get("num_kv_heads") if is_new else 1, "intermediate_size": ffn},
        "Falcon",
        tied=bool(config.get("tie_word_embeddings", True)),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        activation="gelu",
        norms=BESIDE if is_new and config.get("num_ln_in_parallel_attn") != 1 else SHARED,
        transformer=TRANSFORMER,
    )


def table(shape: Shape) -> list[Entry]:
    """Return the table; ``query_key_value`` already has Megatron's layout: for each KV head its queries, itself, its
    value."""
    hidden, ffn = shape.hidden, shape.ffn
    beside = shape.norms == BESIDE
    return [
        one(EMBEDDING, "transformer.word_embeddings.weight", shape.vocab, hidden, stacked=False),
        *layer_norm(BEFORE_ATTENTION, f"{LAYER}.{'ln_attn' if beside else 'input_layernorm'}", hidden),
        *(layer_norm(BEFORE_MLP, f"{LAYER}.ln_mlp", hidden) if beside else []),
        one(
            f"{ATTENTION}.weight",
            f"{LAYER}.self_attention.query_key_value.weight",
            shape.query_rows + 2 * shape.kv_rows,
            hidden,
        ),
        one(f"{PROJECTION}.weight", f"{LAYER}.self_attention.dense.weight", hidden, hidden),
        one(f"{FC1}.weight", f"{LAYER}.mlp.dense_h_to_4h.weight", ffn, hidden),
        one(f"{FC2}.weight", f"{LAYER}.mlp.dense_4h_to_h.weight", hidden, ffn),
        *layer_norm(FINAL_NORM, "transformer.ln_f", hidden, stacked=False),
        *output_table(shape),
    ]


FALCON = Family("falcon", ("FalconForCausalLM",), shape, table, prefix="transformer.")
