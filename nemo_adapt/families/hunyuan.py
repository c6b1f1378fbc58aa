"""Hunyuan: Llama's layers with norms of each head's queries and keys after they are rotated.

Its rotary positions have a larger base for long texts, whatever the length of a text is ("dynamic" with ``alpha``).
"""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import KEY_NORM, LAYER, QUERY_NORM, one
from nemo_adapt.families.family import ROTATED, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None)}
DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' HunYuanDenseV1Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a HunYuanDenseV1 config.json; ``KeyError`` without ``head_dim`` if there is ``alpha``."""
    require(config, "Hunyuan", COVERED)
    rope = settings.rope_of(config)
    if rope["rope_type"] == "dynamic" and rope.get("alpha"):
        columns = settings.number(config, "head_dim")
        base = settings.number(rope, "rope_theta") * settings.number(rope, "alpha") ** (columns / (columns - 2))
        rope |= {"rope_type": "default", "rope_theta": base}
        config = {**config, "rope_scaling": None, "rope_parameters": rope}
    return settings.llama_like({**DEFAULTS, **config}, "Hunyuan", qk_norm=ROTATED)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with norms of queries and keys."""
    return [
        *entries.llama_like(shape),
        one(QUERY_NORM, f"{LAYER}.self_attn.query_layernorm.weight", shape.head_dim),
        one(KEY_NORM, f"{LAYER}.self_attn.key_layernorm.weight", shape.head_dim),
    ]


HUNYUAN = Family("hunyuan_v1_dense", ("HunYuanDenseV1ForCausalLM",), shape, table)
