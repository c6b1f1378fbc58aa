"""Apertus: norms of each head's queries and keys, and an MLP without a gate whose activation has trained numbers."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import BEFORE_ATTENTION, BEFORE_MLP, LAYER, MEGATRON
from nemo_adapt.families.family import HEAD, XIELU, Entry, Family, HfConfig, Rows, Shape, require

COVERED = {
    "hidden_act": ("xielu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "qk_norm": (True, None),
    "post_norm": (False, None),
}
THETA = 12e6
ROPE = {
    "rope_type": "llama3",
    "rope_theta": THETA,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    settings.ORIGINAL: 8192,
}
DEFAULTS = {"max_position_embeddings": 65536, "rms_norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' ApertusConfig)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an Apertus config.json."""
    require(config, "Apertus", COVERED)
    config = {**DEFAULTS, **config}
    if not config.get("rope_parameters") and not config.get("rope_scaling"):
        require(config, "Apertus without rope_scaling", {"rope_theta": (THETA, None)})  # transformers 5 ignores it
        config = {**config, "rope_parameters": ROPE}
    transformer = {**settings.RMS_GATED, "gated_linear_unit": False}
    return settings.llama_like(config, "Apertus", qk_norm=HEAD, activation=XIELU, transformer=transformer)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these norms, without a gate, and with the numbers of the activation."""
    norms = {BEFORE_ATTENTION: "attention_layernorm", BEFORE_MLP: "feedforward_layernorm"}
    return [
        *entries.llama_like(shape, norms, fc1=entries.up(shape)),
        *entries.qk_norms(shape.head_dim, shape.head_dim),
        *(_number(name, is_constant=False) for name in ("alpha_p", "alpha_n")),
        *(_number(name, is_constant=True) for name in ("beta", "eps")),
    ]


def _number(name: str, is_constant: bool) -> Entry:
    """Return the entry of a number of the activation (``model.xielu``)."""
    rows = Rows(f"{LAYER}.mlp.act_fn.{name}", 0, 1, is_constant=is_constant)
    return Entry(f"{MEGATRON}.mlp.activation_func.{name}", (1,), (rows,))


APERTUS = Family("apertus", ("ApertusForCausalLM",), shape, table)
