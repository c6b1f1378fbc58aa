"""Granite 3, and Granite 4's models without experts: Llama's layers with factors on embeddings, attention scores, the
residual stream and logits. The latter's table is that of a family whose models may also have Mamba layers and experts.
"""

from nemo_adapt.errors import UserError
from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import FC1, FC2, LAYER, one
from nemo_adapt.families.family import Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "mlp_bias": (False, None)}
FACTORS = dict.fromkeys(("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"), 1.0)
"""What a factor that config.json leaves out is, also that on scores (transformers' GraniteConfig)."""
NEEDED_4 = {"num_local_experts": (0,), "position_embedding_type": ("rope",)}
COVERED_4 = {**COVERED, **NEEDED_4}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Granite config.json. Dropout is left out, as for all families; published files have
    some."""
    require(config, "Granite", COVERED)
    return _shape(config)


def shape_4(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a GraniteMoeHybrid config.json; ``UserError`` if it has experts or Mamba layers, and
    ``KeyError`` without settings that say whether it has."""
    require({name: config[name] for name in COVERED_4 if name in NEEDED_4 or name in config}, "Granite 4", COVERED_4)
    for kind in config.get("layers_block_type") or config["layer_types"] or ["mamba"]:
        if kind not in (settings.FULL, settings.ATTENTION):
            raise UserError(
                f"config.json: layer_types has {kind!r}, which is not covered for Granite 4 models "
                f"(covered: {settings.ATTENTION!r}, {settings.FULL!r})"
            )
    return _shape({**config, "intermediate_size": config.get("shared_intermediate_size", 1024)})


def _shape(config: HfConfig) -> Shape:
    factors = {**FACTORS, **config}
    return settings.llama_like(
        config,
        "Granite",
        embedding_scale=settings.number(factors, "embedding_multiplier"),
        attention_scale=settings.number(factors, "attention_multiplier"),
        residual_scale=settings.number(factors, "residual_multiplier"),
        logit_scale=1 / settings.number(factors, "logits_scaling"),
    )


def table_4(shape: Shape) -> list[Entry]:
    """Return Llama's table with gate and up in one tensor, and other names of the MLP."""
    fc1 = one(f"{FC1}.weight", f"{LAYER}.shared_mlp.input_linear.weight", 2 * shape.ffn, shape.hidden)
    fc2 = one(f"{FC2}.weight", f"{LAYER}.shared_mlp.output_linear.weight", shape.hidden, shape.ffn)
    return entries.llama_like(shape, fc1=fc1, fc2=fc2)


GRANITE = Family("granite", ("GraniteForCausalLM",), shape, entries.llama_like)
GRANITE4 = Family("granitemoehybrid", ("GraniteMoeHybridForCausalLM",), shape_4, table_4)
