"""Qwen 2, 2.5 (biases of queries, keys and values) and 3 (norms of each head's queries and keys)."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import HEAD, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}
DEFAULTS = {"max_position_embeddings": 32768, "num_key_value_heads": 32}
"""What a setting that config.json leaves out means (transformers' Qwen2Config and Qwen3Config)."""


def windows(config: HfConfig) -> tuple[int, ...]:
    """Return ``Shape.windows``: layers from ``max_window_layers`` on slide if ``use_sliding_window`` is set."""
    if not config.get("use_sliding_window"):
        return ()
    first = config.get("max_window_layers", 28)  # transformers' default
    return settings.windows(config, [layer >= first for layer in range(config["num_hidden_layers"])])


def shape_2(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Qwen2 config.json."""
    require(config, "Qwen2", COVERED)
    config = {**DEFAULTS, **config}
    transformer = {**settings.RMS_GATED, "add_qkv_bias": True}
    return settings.llama_like(config, "Qwen2", windows=windows(config), transformer=transformer)


def entries_2(shape: Shape) -> list[Entry]:
    """Return Llama's table with biases of queries, keys and values."""
    return [*entries.llama_like(shape), entries.qkv_bias(shape)]


def shape_3(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Qwen3 config.json; ``head_dim`` is 128 if not set."""
    require(config, "Qwen3", {**COVERED, "attention_bias": (False, None)})
    config = {**DEFAULTS, **config}
    head_dim = config.get("head_dim") or 128
    return settings.llama_like(config, "Qwen3", windows=windows(config), head_dim=head_dim, qk_norm=HEAD)


def entries_3(shape: Shape) -> list[Entry]:
    """Return Llama's table with norms of queries and keys."""
    return [*entries.llama_like(shape), *entries.qk_norms(shape.head_dim, shape.head_dim)]


QWEN2 = Family("qwen2", ("Qwen2ForCausalLM",), shape_2, entries_2)
QWEN3 = Family("qwen3", ("Qwen3ForCausalLM",), shape_3, entries_3)
