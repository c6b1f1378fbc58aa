"""Reading a config.json: what models with Llama's settings share, in the spelling of transformers 4 and 5."""

import math
from collections.abc import Mapping
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import HfConfig, Rotary, Shape, require

ORIGINAL = "original_max_position_embeddings"
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL)
RMS_GATED = {"normalization": "RMSNorm", "gated_linear_unit": True, "add_bias_linear": False}
"""Arguments of ``TransformerConfig`` for layers with RMSNorm, a gated MLP and no biases."""
LAYER_NORM_BIASES = {"normalization": "LayerNorm", "gated_linear_unit": False, "add_bias_linear": True}
"""The same for layers with LayerNorm, a plain MLP and biases everywhere."""
WHOLE_HEADS = (
    "Llama",
    "Mistral",
    "Ministral3",
    "Qwen2",
    "Qwen3",
    "Gemma",
    "Gemma2",
    "Gemma3",
    "OLMo-2",
    "OLMo-3",
    "SmolLM3",
    "Seed-OSS",
    "EXAONE-4",
    "Arcee",
    "Jais-2",
    "Apertus",
    "Granite",
    "Cohere",
    "Cohere2",
    "Falcon",
    "Hunyuan",
    "ERNIE-4.5",
    "StarCoder2",
)
"""Families in which transformers rotates whole heads, whatever ``partial_rotary_factor`` says."""
LONGROPE_ALONE = ("Phi-3",)
"""Families for which transformers has no scaled rotary positions but ``longrope``, also under ``OTHER_NAMES``."""
OTHER_NAMES = ("su", "yarn")
"""Names that ``longrope`` has had; in these families the second is no YaRN."""
FULL, SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers in ``layer_types`` and ``rope_parameters`` (transformers 5)."""
ATTENTION = "attention"
"""What transformers 4 calls the first in models that also have other layers (Granite 4)."""

OLDER_NAMES = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}
"""Type of model -> general names of rotary settings -> those of transformers 4, where they are others."""

OF_ONE_KIND = {"rope_scaling": None, ORIGINAL: None}
"""Settings of the whole model, which do not count where config.json has rotary positions for each kind of layer."""


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


def with_own_names(config: HfConfig, general: Mapping[str, str]) -> HfConfig:
    """Return a config.json with the settings that have ``general`` names also under the family's own (general -> own).

    The value of a general name replaces that of the own one beside it, as in transformers (``attribute_map``).
    """
    return {**config, **{own: config[name] for name, own in general.items() if name in config}}


def rotary(config: HfConfig, family: str) -> Rotary:
    """Return the rotary positions of a config.json; ``UserError`` for a scaling that is not covered."""
    settings = rope_of(config)
    kind = settings["rope_type"]
    if family in LONGROPE_ALONE and kind in OTHER_NAMES:
        kind = "longrope"
    covered = ["default", "longrope"] if family in LONGROPE_ALONE else ["default", "linear", "llama3", "yarn"]
    if kind not in covered:
        raise UserError(
            f"config.json: rope scaling {kind!r} is not covered for {family} models "
            f"(covered: {', '.join(map(repr, covered))})"
        )
    scaling: dict[str, Any] = {}
    magnitude = 1.0
    if kind == "linear":
        scaling = {"linear": number(settings, "factor")}
    elif kind == "llama3":
        scaling = {name: number(settings, name) for name in LLAMA3}
    elif kind == "yarn":
        scaling, magnitude = yarn(config, settings)
    elif kind == "longrope":
        scaling, magnitude = longrope(config, settings)
    share = settings["partial_rotary_factor"] or 1.0
    if share != 1.0 and family in WHOLE_HEADS:
        raise UserError(
            f"config.json: partial_rotary_factor={share} is not covered for {family} models: transformers ignores it "
            "there; remove it, or name the class that the model was trained with"
        )
    return Rotary(number(settings, "rope_theta"), share, scaling, magnitude)


def rope_of(config: HfConfig) -> dict[str, Any]:
    """Return the settings of the rotary positions of a config.json, with their kind of scaling as ``rope_type``.

    They are in ``rope_parameters`` (transformers 5), or in ``rope_theta`` and ``rope_scaling`` (4); where both are,
    ``rope_scaling`` counts, as in transformers 5.
    """
    settings = {
        "rope_theta": config.get("rope_theta", 10000.0),
        "partial_rotary_factor": config.get("partial_rotary_factor", 1.0),
        **(config.get("rope_scaling") or config.get("rope_parameters") or {}),
    }
    if config.get(ORIGINAL):  # beside them, it counts more
        settings[ORIGINAL] = config[ORIGINAL]
    return {**settings, "rope_type": _kind(settings)}


def of_full_layers(config: HfConfig, family: str) -> dict[str, Any]:
    """Return the rotary settings of layers that see all positions, in families that have them by kind of layer.

    Unlike elsewhere, transformers adds ``rope_scaling`` to what ``rope_parameters`` says. ``UserError`` for settings
    that transformers 5 does not look for there.
    """
    kinds, scaling = config.get("rope_parameters"), config.get("rope_scaling") or {}
    scaled = {**((kinds or {}).get(FULL) or {}), **scaling}
    require(scaled, family, {"truncate": (True,)})
    if kinds is None and "rope_type" not in scaling and scaling.get("type", "default") != "default":
        raise UserError(
            f"config.json: rope_scaling with type={scaling['type']!r} is not covered for {family} models: transformers "
            "5 ignores it there; name it rope_type"
        )
    return scaled


def yarn(config: HfConfig, settings: Mapping[str, Any]) -> tuple[dict[str, float], float]:
    """Return YaRN's scaling and magnitude, with transformers 5's defaults (modeling_rope_utils.py).

    The magnitude is 0.1 ln(factor) + 1 (arXiv 2309.00071, equation 22), unless it is given, or is the quotient of two
    with weights on the logarithm (DeepSeek).
    """
    longest = config.get("max_position_embeddings", 2048)
    original = settings.get(ORIGINAL) or longest
    factor = longest / original if settings["factor"] is None else number(settings, "factor")
    fast, slow = settings.get("beta_fast") or 32, settings.get("beta_slow") or 1
    if number(settings, "rope_theta") <= 1 or fast < 0 or slow < 0 or original < 0:
        raise UserError(
            f"config.json: rope scaling 'yarn' needs rope_theta above 1 ({settings['rope_theta']}), and beta_fast "
            f"({fast}), beta_slow ({slow}) and {ORIGINAL} ({original}) above 0: correct it or download it again"
        )
    above, below = settings.get("mscale"), settings.get("mscale_all_dim")
    magnitude = settings.get("attention_factor")
    if magnitude is None:
        magnitude = _magnitude(factor, above) / _magnitude(factor, below) if above and below else _magnitude(factor)
    scaling = {"factor": factor, "beta_fast": fast, "beta_slow": slow, ORIGINAL: original}
    return {**scaling, "truncate": settings.get("truncate", True)}, float(magnitude)


def longrope(config: HfConfig, settings: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Return LongRoPE's scaling and magnitude (arXiv 2402.13753) for samples up to the original length.

    transformers has two lists with a factor for each pair of columns, and takes the second for all positions of a
    longer text. ``UserError`` for lists that do not fit the heads.
    """
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    pairs = int(head_dim * (settings["partial_rotary_factor"] or 1.0)) // 2
    for name in ("short_factor", "long_factor"):
        given = settings[name] or []
        if len(given) != pairs or not all(isinstance(each, int | float) and 0 < each < math.inf for each in given):
            raise UserError(f"config.json: {name} is not {pairs} numbers above 0: correct it or download it again")
    original, magnitude = number(settings, ORIGINAL), settings.get("attention_factor")
    if magnitude is None:
        factor = settings.get("factor")
        factor = config["max_position_embeddings"] / original if factor is None else factor
        magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    return {"each": tuple(settings["short_factor"])}, float(magnitude)


def _magnitude(factor: float, weight: float = 1.0) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def number(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting that must be above 0; ``KeyError``, as for an absent one, if it is null."""
    if settings[name] is None:
        raise KeyError(name)
    if settings[name] <= 0:
        raise UserError(f"config.json: {name}={settings[name]} is not above 0: correct it or download it again")
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
    older = OLDER_NAMES.get(config.get("model_type", ""), {})
    beside |= {older[name]: value for name, value in beside.items() if name in older}
    kind = _kind(rope)
    if "short_factor" in rope:  # Phi-3: transformers 4 takes no other names, and the original length from beside it
        rest = {name: value for name, value in rope.items() if name not in ("rope_type", ORIGINAL)}
        return {**beside, "rope_scaling": {**rest, "type": kind}}
    return {**beside, "rope_scaling": None if kind == "default" else {**rope, "rope_type": kind}}


def older_layers(config: HfConfig) -> dict[str, Any]:
    """Return ``layer_types`` in the spelling of transformers 4, if it has another (5 reads both)."""
    kinds = config.get("layer_types")
    if config.get("model_type") != "granitemoehybrid" or not kinds:
        return {}
    return {"layer_types": [ATTENTION if kind == FULL else kind for kind in kinds]}


def _kind(rope: Mapping[str, Any]) -> str:
    """Return the kind of scaling: ``rope_type``, or ``type`` in older files."""
    return str(rope.get("rope_type") or rope.get("type") or "default")


def slides(config: HfConfig, sliding: list[bool]) -> list[bool]:
    """Return which layers see a window: ``layer_types`` (transformers 5) says it, else ``sliding``.

    ``UserError`` unless it has one of two kinds for each layer.
    """
    kinds = config.get("layer_types")
    if not kinds:
        return sliding
    if len(kinds) != config["num_hidden_layers"] or not all(kind in (FULL, SLIDING) for kind in kinds):
        raise UserError(
            f"config.json: layer_types must be {FULL!r} or {SLIDING!r} for each of {config['num_hidden_layers']} layers"
        )
    return [kind == SLIDING for kind in kinds]


def windows(config: HfConfig, sliding: list[bool], default: int = 4096) -> tuple[int, ...]:
    """Return ``Shape.windows``; ``sliding`` as for ``slides``.

    ``default`` is the family's window if config.json has none.
    """
    size, found = config.get("sliding_window", default) or 0, slides(config, sliding)
    return tuple(size if each else 0 for each in found) if size and any(found) else ()


def windows_everywhere(config: HfConfig, family: str, default: int = 4096) -> tuple[int, ...]:
    """Return ``Shape.windows`` of a family in which all layers have the window, if there is one.

    ``UserError`` for ``layer_types`` without it, which transformers ignores in such a family.
    """
    everywhere = [True] * config["num_hidden_layers"]
    found = windows({**config, "layer_types": None}, everywhere, default)
    if found and not all(slides(config, everywhere)):
        raise UserError(
            f"config.json: layer_types without the window in some layers is not covered for {family} models: "
            "transformers ignores it there; remove it, or name the class that the model was trained with"
        )
    return found
