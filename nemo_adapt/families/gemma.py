"""Gemma 1, 2 and 3: zero-centered norms, scaled embeddings, gated GELU.

From 2 on norms stand around attention and MLP; 2 caps scores, 3 norms queries and keys and has two kinds of rotary
positions. Of the sizes of 3 that also read images, this is the language model.
"""

from nemo_adapt.families import entries, settings
from nemo_adapt.families.entries import OTHER_PARTS, PREFIXES_OF_TEXT
from nemo_adapt.families.family import AROUND, HEAD, Entry, Family, HfConfig, Shape, require

COVERED = {
    "attention_bias": (False, None),
    "use_bidirectional_attention": (False, None),
}
DEFAULTS_1 = {"max_position_embeddings": 8192, "num_key_value_heads": 16}
DEFAULTS_2 = {"max_position_embeddings": 8192, "num_key_value_heads": 4}
"""What a setting that config.json leaves out means (transformers' GemmaConfig and Gemma2Config)."""
DEFAULTS_3 = {
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
}
"""Settings that published files of Gemma 3 leave out (transformers' Gemma3TextConfig)."""
THETA, LOCAL_THETA = 1_000_000.0, 10_000.0
"""Bases of its rotary positions, in layers that see all positions and in those with a window, from the same."""
TANH = ("gelu_pytorch_tanh",)
TRANSFORMER = {**settings.RMS_GATED, "layernorm_zero_centered_gamma": True}


def shape_1(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Gemma config.json.

    ``hidden_act: gelu`` of the first published files also means the tanh form: transformers computes it so.
    """
    activations = {"hidden_activation": (*TANH, None), "hidden_act": (*TANH, "gelu", None)}
    require(config, "Gemma", {**COVERED, **activations})
    return settings.llama_like({**DEFAULTS_1, **config}, "Gemma", **_common(config))


def shape_2(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Gemma2 config.json; the first and then every second layer has a sliding window."""
    require(config, "Gemma2", {**COVERED, "hidden_activation": TANH})
    config = {**DEFAULTS_2, **config}
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


def shape_3(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a Gemma3 config.json; every sixth layer has no window, and other rotary positions."""
    config = {**DEFAULTS_3, **config}
    # transformers has the setting of a cap on scores, and does not use it.
    require(config, "Gemma3", {**COVERED, "hidden_activation": (*TANH, None), "attn_logit_softcapping": (None,)})
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    sliding = [(layer + 1) % pattern != 0 for layer in range(config["num_hidden_layers"])]
    kinds = config.get("rope_parameters") or {}  # by kind of layer (transformers 5)
    scaled = settings.of_full_layers(config, "Gemma3")
    everywhere = {"rope_theta": THETA, **config, "rope_parameters": scaled, **settings.OF_ONE_KIND}
    local = {
        "rope_theta": config.get("rope_local_base_freq", LOCAL_THETA),
        "rope_parameters": kinds.get(settings.SLIDING),
    }
    rotary, local_rotary = settings.rotary(everywhere, "Gemma3"), settings.rotary(local, "Gemma3")
    return settings.llama_like(
        config,
        "Gemma3",
        **_common(config),
        rotary=rotary,
        rotaries=tuple(local_rotary if slides else rotary for slides in settings.slides(config, sliding)),
        windows=settings.windows(config, sliding),
        attention_scale=config.get("query_pre_attn_scalar", 256) ** -0.5,
        logit_cap=config.get("final_logit_softcapping") or 0.0,
        norms=AROUND,
        qk_norm=HEAD,
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


def entries_3(shape: Shape) -> list[Entry]:
    """Return Gemma 2's table with norms of queries and keys."""
    return [*entries_2(shape), *entries.qk_norms(shape.head_dim, shape.head_dim)]


GEMMA = Family("gemma", ("GemmaForCausalLM",), shape_1, entries.llama_like)
GEMMA2 = Family("gemma2", ("Gemma2ForCausalLM",), shape_2, entries_2)
GEMMA3 = Family(
    "gemma3_text",
    ("Gemma3ForCausalLM",),
    shape_3,
    entries_3,
    inside=("Gemma3ForConditionalGeneration",),
    nested=PREFIXES_OF_TEXT,
    left_out=OTHER_PARTS,
)
