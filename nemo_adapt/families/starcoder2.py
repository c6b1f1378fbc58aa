"""StarCoder2: LayerNorm, GELU without a gate, biases everywhere; otherwise Llama's layers, with a window."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import FC1, FC2, LAYER, PROJECTION, linear, one
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("gelu_pytorch_tanh",), "use_bias": (True,)}
DEFAULTS = {
    "max_position_embeddings": 4096,
    "num_key_value_heads": 2,
    "norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}
"""What a setting that config.json leaves out means (transformers' Starcoder2Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Starcoder2 config.json. Dropout is left out, as for all families."""
    require(config, "StarCoder2", COVERED)
    config = {**DEFAULTS, **config}
    return settings.llama_like(
        config,
        "StarCoder2",
        norm_epsilon=config["norm_epsilon"],
        windows=settings.windows_everywhere(config, "StarCoder2", default=0),
        activation="gelu_tanh",
        transformer=settings.LAYER_NORM_BIASES,
    )


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table without a gate, with other names of the MLP, and all biases."""
    fc1, fc1_bias = linear(FC1, f"{LAYER}.mlp.c_fc", shape.ffn, shape.hidden)
    fc2, fc2_bias = linear(FC2, f"{LAYER}.mlp.c_proj", shape.hidden, shape.ffn)
    biases = [entries.qkv_bias(shape), one(f"{PROJECTION}.bias", f"{LAYER}.self_attn.o_proj.bias", shape.hidden)]
    return [*entries.llama_like(shape, fc1=fc1, fc2=fc2), *entries.norm_biases(shape), *biases, fc1_bias, fc2_bias]


STARCODER2 = Family("starcoder2", ("Starcoder2ForCausalLM",), shape, table)
