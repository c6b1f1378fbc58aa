"""Jais 2: LayerNorm, squared ReLU without a gate, biases everywhere; otherwise Llama's layers."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import FC1, FC2, LAYER, PROJECTION, one
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("relu2",), "attention_bias": (True,), "mlp_bias": (True,)}
DEFAULTS = {"max_position_embeddings": 8192, "layer_norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' Jais2Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Jais2 config.json."""
    require(config, "Jais-2", COVERED)
    config = {**DEFAULTS, **config}
    return settings.llama_like(
        config,
        "Jais-2",
        norm_epsilon=config["layer_norm_eps"],
        activation="squared_relu",
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table without a gate, and all biases."""
    return [
        *entries.llama_like(shape, fc1=entries.up(shape)),
        *entries.norm_biases(shape),
        entries.qkv_bias(shape),
        one(f"{PROJECTION}.bias", f"{LAYER}.self_attn.o_proj.bias", shape.hidden),
        one(f"{FC1}.bias", f"{LAYER}.mlp.up_proj.bias", shape.ffn),
        one(f"{FC2}.bias", f"{LAYER}.mlp.down_proj.bias", shape.hidden),
    ]


JAIS2 = Family("jais2", ("Jais2ForCausalLM",), shape, table)
