"""Arcee AFM: Llama's layers with a squared ReLU instead of a gate."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("relu2",), "attention_bias": (False, None), "mlp_bias": (False, None)}
DEFAULTS = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
"""What a setting that config.json leaves out means (transformers' ArceeConfig)."""
TRANSFORMER = {**settings.RMS_GATED, "gated_linear_unit": False}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an Arcee config.json."""
    require(config, "Arcee", COVERED)
    config = {**DEFAULTS, **config}
    return settings.llama_like(config, "Arcee", activation="squared_relu", transformer=TRANSFORMER)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table without a gate."""
    return entries.llama_like(shape, fc1=entries.up(shape))


ARCEE = Family("arcee", ("ArceeForCausalLM",), shape, table)
