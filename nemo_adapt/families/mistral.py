"""Mistral, Ministral and Ministral 3: Llama's table, optionally with sliding windows, or an image tower beside it.

Ministral 3 lets queries grow with the logarithm of their position, from the length of its first training on
(transformers' ``get_llama_4_attn_scale``). That is not covered: samples may not be longer.
"""

from collections.abc import Callable
from typing import Any

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import OTHER_PARTS, PREFIXES_OF_TEXT
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}
DEFAULTS = {"max_position_embeddings": 131072, "num_key_value_heads": 8}
"""What a setting that config.json leaves out means (transformers' MistralConfig)."""
YARN_3 = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    settings.ORIGINAL: 16384,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
DEFAULTS_3 = {
    "max_position_embeddings": 262144,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-5,
    "sliding_window": None,
    "rope_parameters": YARN_3,
}
"""The same for transformers' Ministral3Config."""
BESIDE_IMAGES = "Mistral3ForConditionalGeneration"


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Mistral config.json; every layer has a sliding window if ``sliding_window`` is set.

    With ``layer_types``, transformers loads such a folder as Ministral, in which these say it.
    """
    require(config, "Mistral", COVERED)
    config = {**DEFAULTS, **config}
    windows = settings.windows(config, [True] * config["num_hidden_layers"])
    return settings.llama_like(config, "Mistral", windows=windows)


def shape_3(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Ministral3 config.json; ``KeyError`` without the position from which queries grow."""
    require(config, "Ministral3", COVERED)
    config = {**DEFAULTS_3, **config}
    windows = settings.windows_everywhere(config, "Ministral3")
    rope = config.get("rope_scaling") or config["rope_parameters"] or YARN_3
    longest = settings.number(rope, settings.ORIGINAL)
    config = {**config, "rope_parameters": rope}
    return settings.llama_like(config, "Ministral3", windows=windows, longest_sample=longest)


def _beside_images(name: str, architecture: str, reads: Callable[[HfConfig], Shape]) -> Family:
    """Return a family whose models are also inside of those that read images."""
    inside: dict[str, Any] = {"inside": (BESIDE_IMAGES,), "nested": PREFIXES_OF_TEXT, "left_out": OTHER_PARTS}
    return Family(name, (architecture,), reads, entries.llama_like, **inside)


MISTRAL = _beside_images("mistral", "MistralForCausalLM", shape)
MINISTRAL = Family("ministral", ("MinistralForCausalLM",), shape, entries.llama_like)
MINISTRAL3 = _beside_images("ministral3", "Ministral3ForCausalLM", shape_3)
