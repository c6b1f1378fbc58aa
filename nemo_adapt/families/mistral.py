"""Mistral 7B and similar models: Llama's table, optionally with a sliding window."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_dropout": (0.0, 0, None)}
DEFAULTS = {"max_position_embeddings": 131072, "num_key_value_heads": 8}
"""What a setting that config.json leaves out means (transformers' MistralConfig)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Mistral config.json; every layer has a sliding window if ``sliding_window`` is set."""
    require(config, "Mistral", COVERED)
    config = {**DEFAULTS, **config}
    return settings.llama_like(config, "Mistral", windows=settings.windows_everywhere(config, "Mistral"))


MISTRAL = Family("mistral", ("MistralForCausalLM",), shape, entries.llama_like)
