"""Aya, Command R and Command R7B: attention and MLP in parallel after one LayerNorm without bias, scaled logits.

Rotary positions turn columns next to each other. In Cohere 2 layers with a window have them, the others no positions.
"""

from dataclasses import replace
from typing import Any

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import OWN, SHARED, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None)}
DEFAULTS = {"max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "tie_word_embeddings": True}
DEFAULTS_2 = {**DEFAULTS, "sliding_window": 4096, "sliding_window_pattern": 4}
"""What a setting that config.json leaves out means (transformers' CohereConfig and Cohere2Config)."""
TRANSFORMER = {**settings.RMS_GATED, "normalization": "LayerNorm"}


def shape_1(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Cohere config.json; ``KeyError`` without the base of its rotary positions, whose
    default is not the same in transformers 4 and 5."""
    require(config, "Cohere", COVERED)
    settings.number({**config, **(config.get("rope_parameters") or {})}, "rope_theta")
    config = {**DEFAULTS, **config}
    qk_norm = OWN if config.get("use_qk_norm") else ""
    return settings.llama_like(config, "Cohere", qk_norm=qk_norm, **_common(config, "Cohere"))


def shape_2(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Cohere2 config.json; every fourth layer sees all positions, and has none itself."""
    require(config, "Cohere2", COVERED)
    config = {**DEFAULTS_2, **config}
    settings.number(config, "sliding_window")  # without it, transformers rotates in no layer
    pattern = settings.number(config, "sliding_window_pattern")
    sliding = [(layer + 1) % pattern != 0 for layer in range(config["num_hidden_layers"])]
    common = _common(config, "Cohere2")
    return settings.llama_like(
        config,
        "Cohere2",
        **common,
        rotaries=tuple(common["rotary"] if slides else None for slides in settings.slides(config, sliding)),
        windows=settings.windows(config, sliding),
    )


def _common(config: HfConfig, family: str) -> dict[str, Any]:
    return {
        "norm_epsilon": config["layer_norm_eps"],
        "logit_scale": settings.number(config, "logit_scale"),
        "rotary": replace(settings.rotary(config, family), interleaved=True),
        "norms": SHARED,
        "norm_bias": False,
        "transformer": TRANSFORMER,
    }


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with one norm per layer, and norms of queries and keys if the model has them."""
    heads = ((shape.heads, shape.head_dim), (shape.kv_heads, shape.head_dim))
    norms = entries.qk_norms(*heads) if shape.qk_norm else []
    return [*entries.llama_like(shape, {entries.BEFORE_ATTENTION: "input_layernorm"}), *norms]


COHERE = Family("cohere", ("CohereForCausalLM",), shape_1, table)
COHERE2 = Family("cohere2", ("Cohere2ForCausalLM",), shape_2, table)
