"""GPT-NeoX and Pythia: attention and MLP in parallel, each after a LayerNorm of its own; partial rotary positions."""

from typing import Any

from nemo_adapt.families import settings
from nemo_adapt.families.entries import FINAL_NORM, by_head, layer_norm, one, output_table
from nemo_adapt.families.family import (
    BEFORE,
    BESIDE,
    EMBEDDING,
    LM_HEAD,
    Entry,
    Family,
    HfConfig,
    Shape,
    require,
)

ACTIVATIONS = {"gelu": "gelu", "gelu_fast": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
"""``hidden_act`` -> ours; three spell the tanh form."""
COVERED = {"hidden_act": tuple(ACTIVATIONS), "attention_bias": (True, None), "head_dim": (None,)}
LAYER = "gpt_neox.layers.{layer}"
OUTPUT = "embed_out.weight"


def shape(config: HfConfig) -> Shape:
    """Return the ``Shape`` of a GPT-NeoX config.json. Dropout is left out, as for all families."""
    require(config, "GPT-NeoX", COVERED)
    return settings.llama_like(
        {**config, "num_key_value_heads": None},  # which transformers does not read here
        "GPT-NeoX",
        norm_epsilon=config.get("layer_norm_eps", 1e-5),
        activation=ACTIVATIONS[config.get("hidden_act", "gelu")],
        norms=BESIDE if config.get("use_parallel_residual", True) else BEFORE,
        rotary=settings.rotary({**config, **_rope(config)}, "GPT-NeoX"),
        transformer=settings.LAYER_NORM_BIASES,
    )


def _rope(config: HfConfig) -> dict[str, Any]:
    """Return rotary settings under general names; a quarter of each head is rotated if config.json says nothing."""
    return {
        "rope_theta": config.get("rotary_emb_base", 10000.0),
        "partial_rotary_factor": config.get("rotary_pct", 0.25),
    }


def table(shape: Shape) -> list[Entry]:
    """Return the table."""
    hidden = shape.hidden
    return [
        one(EMBEDDING, "gpt_neox.embed_in.weight", shape.vocab, hidden, stacked=False),
        *by_head(shape, LAYER, "attention"),
        *layer_norm(FINAL_NORM, "gpt_neox.final_layer_norm", hidden, stacked=False),
        *output_table(shape, OUTPUT),
    ]


GPT_NEOX = Family(
    "gpt_neox",
    ("GPTNeoXForCausalLM",),
    shape,
    table,
    prefix="gpt_neox.",
    output_table=OUTPUT,
    computed=("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
    nested={LM_HEAD: OUTPUT},
)
