"""Llama-shaped models: RMSNorm, rotary positions, grouped-query attention, gated SiLU, no biases."""

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import (
    EMBEDDING,
    OUTPUT_LAYER,
    Entry,
    Family,
    HfConfig,
    Shape,
    grouped_qkv,
    joined,
    one,
    require,
)

COVERED = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0.0, 0, None),
    "pretraining_tp": (1, None),
}


def shape(config: HfConfig) -> Shape:
    """Megatron's settings for a Llama config.json, in the spelling of transformers 4 or 5."""
    require(config, "Llama", COVERED)
    rope = config.get("rope_parameters") or {
        **(config.get("rope_scaling") or {}),
        "rope_theta": config.get("rope_theta", 10000.0),
    }
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise UserError(f"config.json: rope scaling {kind!r} is not covered for Llama models (covered: 'default')")
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        ffn=config["intermediate_size"],
        vocab=config["vocab_size"],
        max_positions=config.get("max_position_embeddings", 2048),
        tied=bool(config.get("tie_word_embeddings", False)),
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        rotary_base=rope["rope_theta"],
        transformer={"normalization": "RMSNorm", "gated_linear_unit": True, "add_bias_linear": False},
    )


def entries(shape: Shape) -> list[Entry]:
    """The table. Megatron's keys are those of its Transformer Engine layers, with or without that library."""
    layer, mega = "model.layers.{layer}", "decoder.layers"
    hidden, ffn, query = shape.hidden, shape.ffn, shape.heads * shape.head_dim
    qkv = (f"{layer}.self_attn.q_proj.weight", f"{layer}.self_attn.k_proj.weight", f"{layer}.self_attn.v_proj.weight")
    table = [
        one(EMBEDDING, "model.embed_tokens.weight", shape.vocab, hidden, stacked=False),
        one(f"{mega}.self_attention.linear_qkv.layer_norm_weight", f"{layer}.input_layernorm.weight", hidden),
        grouped_qkv(f"{mega}.self_attention.linear_qkv.weight", qkv, shape),
        one(f"{mega}.self_attention.linear_proj.weight", f"{layer}.self_attn.o_proj.weight", hidden, query),
        one(f"{mega}.mlp.linear_fc1.layer_norm_weight", f"{layer}.post_attention_layernorm.weight", hidden),
        joined(
            f"{mega}.mlp.linear_fc1.weight",
            (f"{layer}.mlp.gate_proj.weight", f"{layer}.mlp.up_proj.weight"),
            ffn,
            hidden,
        ),
        one(f"{mega}.mlp.linear_fc2.weight", f"{layer}.mlp.down_proj.weight", hidden, ffn),
        one("decoder.final_layernorm.weight", "model.norm.weight", hidden, stacked=False),
    ]
    if not shape.tied:
        table.append(one(OUTPUT_LAYER, "lm_head.weight", shape.vocab, hidden, stacked=False))
    return table


LLAMA = Family("llama", ("LlamaForCausalLM",), shape, entries)
