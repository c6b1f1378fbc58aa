"""Llama 1 to 3.x: RMSNorm, rotary positions (scaled since 3.1), grouped-query attention, gated SiLU, no biases."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "mlp_bias": (False, None)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Llama config.json."""
    require(config, "Llama", COVERED)
    return settings.llama_like(config, "Llama")


LLAMA = Family("llama", ("LlamaForCausalLM",), shape, entries.llama_like)
