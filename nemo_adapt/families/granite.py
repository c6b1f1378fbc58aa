"""Granite 3: Llama's layers with factors on embeddings, attention scores, the residual stream and logits."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "mlp_bias": (False, None)}
FACTORS = dict.fromkeys(("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"), 1.0)
"""What a factor that config.json leaves out is, also that on scores (transformers' GraniteConfig)."""


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Granite config.json. Dropout is left out, as for all families; published files have
    some."""
    require(config, "Granite", COVERED)
    factors = {**FACTORS, **config}
    return settings.llama_like(
        config,
        "Granite",
        embedding_scale=settings.number(factors, "embedding_multiplier"),
        attention_scale=settings.number(factors, "attention_multiplier"),
        residual_scale=settings.number(factors, "residual_multiplier"),
        logit_scale=1 / settings.number(factors, "logits_scaling"),
    )


GRANITE = Family("granite", ("GraniteForCausalLM",), shape, entries.llama_like)
