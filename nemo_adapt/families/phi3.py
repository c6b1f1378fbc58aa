"""Phi-3: Llama's layers with queries, keys and values in one tensor, and gate and up in another.

Files for long contexts have ``longrope``, with other rotary positions for texts that are longer than those of the first
training. These are not covered: samples may not be longer.
"""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import ATTENTION, LAYER
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}
DEFAULTS = {"max_position_embeddings": 4096, settings.ORIGINAL: 4096, "rms_norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' Phi3Config)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Phi-3 config.json."""
    require(config, "Phi-3", COVERED)
    config = {**DEFAULTS, **config}
    rotary = settings.rotary(config, "Phi-3")
    return settings.llama_like(
        config,
        "Phi-3",
        rotary=rotary,
        windows=settings.windows_everywhere(config, "Phi-3", default=0),
        longest_sample=settings.number(config, settings.ORIGINAL) if rotary.scaling else 0,
    )


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these."""
    qkv = f"{LAYER}.self_attn.qkv_proj.weight"
    places = [(qkv, 0), (qkv, shape.query_rows), (qkv, shape.query_rows + shape.kv_rows)]
    grouped = entries.grouped_qkv(f"{ATTENTION}.weight", places, shape, [shape.hidden])
    return entries.llama_like(shape, qkv=grouped, fc1=entries.gate_up(shape))


PHI3 = Family("phi3", ("Phi3ForCausalLM",), shape, table)
