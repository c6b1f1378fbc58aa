"""Phi-3: Llama's layers with queries, keys and values in one tensor, and gate and up in another."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import ATTENTION, FC1, LAYER
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Phi-3 config.json; ``UserError`` for long-context files (``longrope``)."""
    require(config, "Phi-3", COVERED)
    config = {"max_position_embeddings": 4096, **config}  # transformers' default for this family
    windows = settings.windows_everywhere(config, "Phi-3", default=0)
    return settings.llama_like(config, "Phi-3", windows=windows, norm_epsilon=config.get("rms_norm_eps", 1e-5))


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table; gate and up are already one tensor, as Megatron stores them."""
    qkv, hidden = f"{LAYER}.self_attn.qkv_proj.weight", shape.hidden
    places = [(qkv, 0), (qkv, shape.query_rows), (qkv, shape.query_rows + shape.kv_rows)]
    return entries.llama_like(
        shape,
        qkv=entries.grouped_qkv(f"{ATTENTION}.weight", places, shape, [hidden]),
        fc1=entries.one(f"{FC1}.weight", f"{LAYER}.mlp.gate_up_proj.weight", 2 * shape.ffn, hidden),
    )


PHI3 = Family("phi3", ("Phi3ForCausalLM",), shape, table)
