"""Seed-OSS: Llama's layers with biases of queries, keys and values."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {
    "hidden_act": ("silu",),
    "attention_bias": (True,),
    "attention_out_bias": (False, None),
    "mlp_bias": (False, None),
}
DEFAULTS = {"max_position_embeddings": 524288, "num_key_value_heads": 8, "head_dim": 128}
"""What a setting that config.json leaves out means (transformers' SeedOssConfig)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Seed-OSS config.json. Dropout is left out, as for all families; published files have
    some."""
    require(config, "Seed-OSS", COVERED)
    transformer = {**settings.RMS_GATED, "add_qkv_bias": True}
    return settings.llama_like({**DEFAULTS, **config}, "Seed-OSS", transformer=transformer)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with biases of queries, keys and values."""
    return [*entries.llama_like(shape), entries.qkv_bias(shape)]


SEED_OSS = Family("seed_oss", ("SeedOssForCausalLM",), shape, table)
