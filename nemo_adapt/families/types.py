"""The types of what is read from a config.json: a wrong one is named here, not met in a computation."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from nemo_adapt.errors import UserError

PATTERN = "sliding_window_pattern"
MOST = 100_000
"""Most layers and heads: lists are made with one entry for each, and a damaged number would fill the memory."""
MOST_SHOWN = 60
"""Characters of a value in an error."""
COUNTS = (
    *("num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("n_layer", "n_head", "num_layers", "attention_heads", "num_kv_heads"),
)
SIZES = (
    *("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size"),
    *("n_layer", "n_head", "n_embd", "n_embed", "n_inner", "n_positions"),
    *("num_layers", "attention_heads", "d_model", "ffn_dim"),
)
POSITIVE = ("head_dim", "max_position_embeddings")
WHOLE = (
    *("num_key_value_heads", "seq_length", "sliding_window"),
    *(PATTERN, f"_{PATTERN}", "max_window_layers", "no_rope_layer_interval"),
    *("num_kv_heads", "ffn_hidden_size", "shared_intermediate_size"),
)
EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
NUMBERS = (
    *("rope_theta", "rope_local_base_freq"),
    *("query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping", "initializer_range"),
    *("partial_rotary_factor", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    *("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "rotary_emb_base", "rotary_pct"),
    *("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"),
    *("logit_scale", "alpha"),
)
NEVER_NULL = (
    *EPSILONS,
    *("query_pre_attn_scalar", "rotary_emb_base", "rotary_pct"),
    *("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling", "logit_scale"),
)
TRUTHS = (
    *("tie_word_embeddings", "use_sliding_window", "scale_embedding", "truncate", "use_parallel_residual"),
    *("attention_bias", "new_decoder_architecture", "use_qk_norm"),
)
LISTS = ("layer_types", "layers_block_type", "no_rope_layers", "short_factor", "long_factor")
MAPS = ("rope_scaling", "rope_parameters")


def checked(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json without sizes that are null; ``UserError`` that names a setting of a wrong type.

    Other settings may be null, most of which then have no effect.
    """
    if config.get("layer_types") and isinstance(config.get(PATTERN), str):  # EXAONE's "LLLG", of which these are made
        config = {key: value for key, value in config.items() if key != PATTERN}
    kinds: dict[tuple[str, ...], tuple[Callable[[Any], bool], str]] = {
        (*SIZES, *POSITIVE): (lambda value: _is_whole(value) and value > 0, "a whole number above 0"),
        WHOLE: (_is_whole, "a whole number"),
        COUNTS: (lambda value: value <= MOST, f"at most {MOST}"),  # whole numbers, as both kinds before say
        EPSILONS: (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
        NUMBERS: (_is_number, "a number"),
        TRUTHS: (lambda value: isinstance(value, bool), "true or false"),
        LISTS: (lambda value: isinstance(value, list), "a list"),
        MAPS: (lambda value: isinstance(value, dict), "an object"),
    }
    for keys, (fits, what) in kinds.items():
        for key in keys:
            if key not in config or (config[key] is None and key not in NEVER_NULL):
                continue
            if not fits(config[key]):
                raise UserError(
                    f"config.json: {key}={_shown(config[key])} is not {what}: correct it or download it again"
                )
    for key in MAPS:
        if config.get(key):
            _check_rope(config[key])
    return {key: value for key, value in config.items() if value is not None or key not in SIZES}


def _check_rope(rope: Mapping[str, Any]) -> None:
    """Check rotary positions, which may be given for each kind of layer."""
    checked(rope)
    for value in rope.values():
        if isinstance(value, dict):
            checked(value)


def architectures(config: Mapping[str, Any]) -> list[str]:
    """Return the architectures that a config.json names; ``UserError`` if that is not a list of names."""
    found = config.get("architectures") or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(f"config.json: architectures={found!r} is not a list of names: download it again")
    return found


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """Whether it is a number that counts: JSON as Python reads it also has NaN, infinities and endless digits."""
    try:
        return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _shown(value: Any) -> str:
    """Return a value as an error names it, without the end of a long one."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
