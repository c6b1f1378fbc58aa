"""Granite 3: Llama's layers with factors on embeddings, attention scores, the residual stream and logits."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "mlp_bias": (False, None)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Granite config.json: a factor that it leaves out is 1, also that on scores.

    Dropout is left out, as for all families: published files have some.
    """
    require(config, "Granite", COVERED)
    return settings.llama_like(
        config,
        "Granite",
        embedding_scale=config.get("embedding_multiplier", 1.0),
        attention_scale=config.get("attention_multiplier", 1.0),
        residual_scale=config.get("residual_multiplier", 1.0),
        logit_scale=1 / config.get("logits_scaling", 1.0),
    )


GRANITE = Family("granite", ("GraniteForCausalLM",), shape, entries.llama_like)
