"""Gemma 1 and 2: zero-centered norms, scaled embeddings, gated GELU; 2 with capped scores and norms around."""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.family import AROUND, Entry, Family, HfConfig, Shape, require

COVERED = {
    "attention_bias": (False, None),
    "attention_dropout": (0.0, 0, None),
    "use_bidirectional_attention": (False, None),
}
TANH = ("gelu_pytorch_tanh",)
TRANSFORMER = {**settings.RMS_GATED, "layernorm_zero_centered_gamma": True}


def shape_1(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Gemma config.json.

    ``hidden_act: gelu`` of the first published files also means the tanh form: transformers computes it so.
    """
    activations = {"hidden_activation": (*TANH, None), "hidden_act": (*TANH, "gelu", None)}
    require(config, "Gemma", {**COVERED, **activations})
    return settings.llama_like(config, "Gemma", **_common(config))


def shape_2(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Gemma2 config.json; the first and then every second layer has a sliding window."""
    require(config, "Gemma2", {**COVERED, "hidden_activation": TANH})
    sliding = [layer % 2 == 0 for layer in range(config["num_hidden_layers"])]
    return settings.llama_like(
        config,
        "Gemma2",
        **_common(config),
        windows=settings.windows(config, sliding),
        attention_scale=config.get("query_pre_attn_scalar", 256) ** -0.5,
        attention_cap=config.get("attn_logit_softcapping", 50.0) or 0.0,
        logit_cap=config.get("final_logit_softcapping", 30.0) or 0.0,
        norms=AROUND,
    )


def entries_2(shape: Shape) -> list[Entry]:
    """Return Llama's table with four norms per layer."""
    norms = {
        entries.BEFORE_ATTENTION: "input_layernorm",
        entries.AFTER_ATTENTION: "post_attention_layernorm",
        entries.BEFORE_MLP: "pre_feedforward_layernorm",
        entries.AFTER_MLP: "post_feedforward_layernorm",
    }
    return entries.llama_like(shape, norms)


def _common(config: HfConfig) -> dict[str, object]:
    return {
        "head_dim": config.get("head_dim") or 256,
        "tied": bool(config.get("tie_word_embeddings", True)),
        "embedding_scale": config["hidden_size"] ** 0.5,
        "rounds_scale": True,
        "activation": "gelu_tanh",
        "transformer": TRANSFORMER,
    }


GEMMA = Family("gemma", ("GemmaForCausalLM",), shape_1, entries.llama_like)
GEMMA2 = Family("gemma2", ("Gemma2ForCausalLM",), shape_2, entries_2)
