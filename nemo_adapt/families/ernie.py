"""ERNIE 4.5: Llama's layers; rotary positions turn columns next to each other."""

from dataclasses import replace

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "use_bias": (False, None)}
DEFAULTS = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}
"""What a setting that config.json leaves out means (transformers' Ernie4_5Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an Ernie4_5 config.json."""
    require(config, "ERNIE-4.5", COVERED)
    config = {**DEFAULTS, **config}
    rotary = replace(settings.rotary(config, "ERNIE-4.5"), interleaved=True)
    return settings.llama_like(config, "ERNIE-4.5", rotary=rotary)


ERNIE4_5 = Family("ernie4_5", ("Ernie4_5ForCausalLM",), shape, entries.llama_like)
