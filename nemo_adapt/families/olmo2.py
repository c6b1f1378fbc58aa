"""OLMo 2: norms after attention and MLP instead of before them, and one over all queries and one over all keys."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import AFTER, WHOLE, Entry, Family, HfConfig, Shape, require

COVERED = {"hidden_act": ("silu",), "attention_bias": (False, None), "attention_dropout": (0.0, 0, None)}


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of an OLMo 2 config.json."""
    require(config, "OLMo-2", COVERED)
    epsilon = config.get("rms_norm_eps", 1e-5)
    return settings.llama_like(config, "OLMo-2", norm_epsilon=epsilon, norms=AFTER, qk_norm=WHOLE)


def table(shape: Shape) -> list[Entry]:
    """Return Llama's table with these norms."""
    norms = {
        entries.AFTER_ATTENTION: "post_attention_layernorm",
        entries.AFTER_MLP: "post_feedforward_layernorm",
    }
    return [*entries.llama_like(shape, norms), *entries.qk_norms(shape.query_rows, shape.kv_rows)]


OLMO2 = Family("olmo2", ("Olmo2ForCausalLM",), shape, table)
