"""EXAONE 4: OLMo 2's layers with norms of each head's queries and keys; layers without a window have no positions."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import AFTER, HEAD, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}
DEFAULTS = {
    "max_position_embeddings": 2048,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
    "sliding_window": 4096,
    "sliding_window_pattern": 4,
}
"""What a setting that config.json leaves out means (transformers' Exaone4Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an Exaone4 config.json: all layers rotate if none has a window, else those that have."""
    require(config, "EXAONE-4", COVERED)
    config = {**DEFAULTS, **config}
    common = {"norms": AFTER, "qk_norm": HEAD}
    if not config["sliding_window"]:
        return settings.llama_like(config, "EXAONE-4", **common)
    pattern, rotary = settings.number(config, "sliding_window_pattern"), settings.rotary(config, "EXAONE-4")
    sliding = [(layer + 1) % pattern != 0 for layer in range(config["num_hidden_layers"])]
    return settings.llama_like(
        config,
        "EXAONE-4",
        **common,
        rotary=rotary,
        rotaries=tuple(rotary if slides else None for slides in settings.slides(config, sliding)),
        windows=settings.windows(config, sliding),
    )


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these norms."""
    return [*entries.llama_like(shape, entries.NORMS_AFTER), *entries.qk_norms(shape.head_dim, shape.head_dim)]


EXAONE4 = Family("exaone4", ("Exaone4ForCausalLM",), shape, table)
