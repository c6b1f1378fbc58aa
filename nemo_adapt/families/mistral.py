"""Mistral 7B and its like: Llama's table; a token may see a sliding window only."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_dropout": (0.0, 0, None)}


def shape(config: HfConfig) -> Shape:
    """Megatron's settings for a Mistral config.json; every layer slides where ``sliding_window`` is set."""
    require(config, "Mistral", COVERED)
    windows = settings.windows(config, [True] * config["num_hidden_layers"])
    return settings.llama_like(config, "Mistral", windows=windows)


MISTRAL = Family("mistral", ("MistralForCausalLM",), shape, entries.llama_like)
