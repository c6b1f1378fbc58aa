"""Reading a config.json: what models with Llama's settings share, in the spelling of transformers 4 and 5."""

from collections.abc import Mapping
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import HfConfig, Rotary, Shape

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
RMS_GATED = {"normalization": "RMSNorm", "gated_linear_unit": True, "add_bias_linear": False}
"""Arguments of ``TransformerConfig`` for layers with RMSNorm, a gated MLP and no biases."""
LAYER_NORM_BIASES = {"normalization": "LayerNorm", "gated_linear_unit": False, "add_bias_linear": True}
"""The same for layers with LayerNorm, a plain MLP and biases everywhere."""
WHOLE_HEADS = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "OLMo-2", "SmolLM3")
"""Families in which transformers rotates whole heads, whatever ``partial_rotary_factor`` says."""
FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers in ``layer_types`` and ``rope_parameters`` (transformers 5)."""


def llama_like(config: HfConfig, family: str, **changed: Any) -> Shape:
    """Return the shape that Llama's settings describe; ``changed`` are the fields in which the family differs."""
    heads = config["num_attention_heads"]
    fields: dict[str, Any] = {
        "layers": config["num_hidden_layers"],
        "hidden": config["hidden_size"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "ffn": config["intermediate_size"],
        "vocab": config["vocab_size"],
        "max_positions": config.get("max_position_embeddings", 2048),
        "tied": bool(config.get("tie_word_embeddings", False)),
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
        "rotary": rotary(config, family),
        "transformer": RMS_GATED,
    }
    return Shape(**{**fields, **changed})


def rotary(config: HfConfig, family: str) -> Rotary:
    """Return the rotary positions of a config.json; ``UserError`` for a scaling that is not covered.

    They are in ``rope_parameters`` (transformers 5), or in ``rope_theta`` and ``rope_scaling`` (4); where both are,
    ``rope_scaling`` counts, as in transformers 5.
    """
    settings = {
        "rope_theta": config.get("rope_theta", 10000.0),
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0),
        **(config.get("rope_scaling") or config.get("rope_parameters") or {}),
    }
    kind = settings.get("rope_type") or settings.get("type") or "default"
    scaling: dict[str, float] = {}
    if kind == "linear":
        scaling = {"linear": _number(settings, "factor")}
    elif kind == "llama3":
        scaling = {name: _number(settings, name) for name in LLAMA3}
    elif kind != "default":
        raise UserError(
            f"config.json: rope scaling {kind!r} is not covered for {family} models "
            "(covered: 'default', 'linear', 'llama3')"
        )
    share = settings["partial_rotary_factor"] or 1.0
    if share != 1.0 and family in WHOLE_HEADS:
        raise UserError(
            f"config.json: partial_rotary_factor={share} is not covered for {family} models: transformers ignores it "
            "there; remove it, or name the class that the model was trained with"
        )
    return Rotary(_number(settings, "rope_theta"), share, scaling)


def _number(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting of rotary positions; ``KeyError``, as for an absent one, if it is null."""
    if settings[name] is None:
        raise KeyError(name)
    return settings[name]


def older_rope(config: HfConfig) -> dict[str, Any]:
    """Return ``rope_parameters`` in the spelling of transformers 4; empty if config.json has none.

    transformers 4 silently ignores ``rope_parameters`` and uses its defaults. A ``rope_scaling`` is kept: it counts in
    both.
    """
    rope = dict(config.get("rope_parameters") or {})
    if not rope:
        return {}
    if FULL in rope:  # Gemma 3
        theta = (rope.get(SLIDING) or {}).get("rope_theta")
        local = {} if theta is None else {"rope_local_base_freq": theta}
        everywhere = {**(rope[FULL] or {}), **(config.get("rope_scaling") or {})}
        return {**older_rope({"rope_parameters": everywhere}), **local}
    if config.get("rope_scaling"):
        return {}
    beside = {name: rope.pop(name) for name in ("rope_theta", "partial_rotary_factor") if name in rope}
    return {**beside, "rope_scaling": None if rope.get("rope_type", "default") == "default" else rope}


def slides(config: HfConfig, sliding: list[bool]) -> list[bool]:
    """Return which layers see a window: ``layer_types`` (transformers 5) says it, else ``sliding``."""
    kinds = config.get("layer_types")
    return [kind == SLIDING for kind in kinds] if kinds else sliding


def windows(config: HfConfig, sliding: list[bool], default: int = 4096) -> tuple[int, ...]:
    """Return ``Shape.windows``; ``sliding`` as for ``slides``.

    ``default`` is the family's window if config.json has none.
    """
    size, found = config.get("sliding_window", default) or 0, slides(config, sliding)
    return tuple(size if each else 0 for each in found) if size and any(found) else ()
