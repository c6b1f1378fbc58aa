"""GLM-4 and GLM-4-0414: Llama's layers with gate and up in one tensor; half of each head is turned, in columns next to
each other. The latter also norms what attention and MLP add to the residual stream.
"""

from dataclasses import replace

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import AFTER_ATTENTION, AFTER_MLP, NORMS_BEFORE
from nemo_adapt.families.family import AROUND, BEFORE, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",)}
DEFAULTS = {
    "max_position_embeddings": 131072,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1.5625e-7,
    "partial_rotary_factor": 0.5,
    "attention_bias": True,
}
"""What a setting that config.json leaves out means (transformers' GlmConfig and Glm4Config)."""
NORMS_4 = {**NORMS_BEFORE, AFTER_ATTENTION: "post_self_attn_layernorm", AFTER_MLP: "post_mlp_layernorm"}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a GLM config.json."""
    return _shape(config, "GLM", BEFORE)


def shape_4(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a GLM-4-0414 config.json."""
    return _shape(config, "GLM-4", AROUND)


def _shape(config: HfConfig, family: str, norms: str) -> Shape:
    require(config, family, COVERED)
    config = {**DEFAULTS, **config}
    rotary = replace(settings.rotary(config, family), interleaved=True)
    transformer = {**settings.RMS_GATED, "add_qkv_bias": bool(config["attention_bias"])}
    return settings.llama_like(config, family, norms=norms, rotary=rotary, transformer=transformer)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these norms, and biases of queries, keys and values if the model has them."""
    norms = NORMS_4 if shape.norms == AROUND else NORMS_BEFORE
    biases = [entries.qkv_bias(shape)] if shape.transformer["add_qkv_bias"] else []
    return [*entries.llama_like(shape, norms, fc1=entries.gate_up(shape)), *biases]


GLM = Family("glm", ("GlmForCausalLM",), shape, table)
GLM4 = Family("glm4", ("Glm4ForCausalLM",), shape_4, table)
