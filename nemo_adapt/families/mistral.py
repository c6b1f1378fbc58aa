"""Mistral 7B and similar models: Llama's table, optionally with a sliding window."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_dropout": (0.0, 0, None)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Mistral config.json; every layer has a sliding window if ``sliding_window`` is set."""
    require(config, "Mistral", COVERED)
    windows = settings.windows(config, [True] * config["num_hidden_layers"])
    return settings.llama_like(config, "Mistral", windows=windows)


MISTRAL = Family("mistral", ("MistralForCausalLM",), shape, entries.llama_like)
