"""SmolLM3: Llama's layers, some of them without any positions (arXiv 2501.18795)."""

from nemo_adapt.errors import UserError
from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "mlp_bias": (False, None)}
DEFAULTS = {"rope_theta": 2_000_000.0, "max_position_embeddings": 32768, "num_key_value_heads": 4}
"""What a setting that config.json leaves out means (transformers' SmolLM3Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a SmolLM3 config.json: without a list, every fourth layer has no positions."""
    require(config, "SmolLM3", COVERED)
    config = {**DEFAULTS, **config}
    interval, layers = config.get("no_rope_layer_interval", 4), config["num_hidden_layers"]
    rotated = config.get("no_rope_layers") or [(layer + 1) % interval != 0 for layer in range(layers)]
    if len(rotated) < layers:
        raise UserError(f"config.json: no_rope_layers has {len(rotated)} numbers for {layers} layers")
    rotary = settings.rotary(config, "SmolLM3")
    slides = bool(config.get("use_sliding_window"))
    return settings.llama_like(
        config,
        "SmolLM3",
        tied=bool(config.get("tie_word_embeddings", True)),
        rotary=rotary,
        rotaries=tuple(rotary if each else None for each in rotated[:layers]),
        windows=settings.windows(config, [not each for each in rotated], default=0) if slides else (),
    )


SMOLLM3 = Family("smollm3", ("SmolLM3ForCausalLM",), shape, entries.llama_like)
