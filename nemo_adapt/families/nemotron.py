"""Nemotron-4 and Minitron: zero-centered LayerNorm, squared ReLU without a gate; a part of each head is turned."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("relu2",), "attention_bias": (False, None), "mlp_bias": (False, None)}
DEFAULTS = {"max_position_embeddings": 4096, "partial_rotary_factor": 0.5, "norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' NemotronConfig)."""
TRANSFORMER = {**settings.LAYER_NORM_BIASES, "add_bias_linear": False, "layernorm_zero_centered_gamma": True}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Nemotron config.json."""
    require(config, "Nemotron", COVERED)
    config = {**DEFAULTS, **config}
    return settings.llama_like(
        config,
        "Nemotron",
        norm_epsilon=config["norm_eps"],
        activation="squared_relu",
        transformer=TRANSFORMER,
    )


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table without a gate, and the norms' biases."""
    return [*entries.llama_like(shape, fc1=entries.up(shape)), *entries.norm_biases(shape)]


NEMOTRON = Family("nemotron", ("NemotronForCausalLM",), shape, table)
