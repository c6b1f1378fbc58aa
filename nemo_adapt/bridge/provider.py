"""A model's settings as Megatron-Bridge's model provider takes them, in the form in which Bridge writes them to YAML.

Each family's provider is the one that Bridge's own conversion makes from its config.json
(megatron/bridge/models/conversion/model_bridge.py and the files beside it, 0.3.1).
"""

from collections.abc import Mapping
from typing import Any

import torch

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape

Settings = dict[str, Any]
MODELS = "megatron.bridge.models"
GPT = f"{MODELS}.gpt_provider.GPTModelProvider"
PROVIDERS = {
    "llama": GPT,
    "mistral": f"{MODELS}.mistral.mistral_provider.MistralModelProvider",
    "qwen2": GPT,
    "qwen3": GPT,
}
"""Family -> Bridge's class. Its others (Gemma) need Transformer Engine to be built at all."""
ACTIVATIONS = {"silu": "torch.nn.functional.silu"}
MEGATRON_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""What megatron-core's Llama 3 rotary positions take for granted (rotary_pos_embedding.py)."""


def named(target: str) -> Settings:
    """A Python object by its name, as Bridge's YAML has it."""
    return {"_target_": target, "_call_": False}


def provider(family: Family, shape: Shape, dtype: torch.dtype, pad_vocab_to: int = 1) -> Settings:
    """The provider of a model of ``shape``, whose weights are ``dtype``, for one rank.

    Its tables are padded to a multiple of ``pad_vocab_to`` times TP when it is built: Bridge does it, and reads a
    checkpoint that has no padded rows. ``UserError`` for a model that Bridge does not have, or has otherwise.
    """
    if family.name not in PROVIDERS:
        raise UserError(f"Megatron-Bridge: {family.name} models are not covered (covered: {', '.join(PROVIDERS)})")
    if shape.windows and (family.name != "mistral" or len(set(shape.windows)) > 1):
        raise UserError(f"Megatron-Bridge has no attention windows for {family.name} models like this one")
    assert shape.rotary
    base = shape.rotary.base
    return {
        "_target_": PROVIDERS[family.name],
        "num_layers": shape.layers,
        "hidden_size": shape.hidden,
        "ffn_hidden_size": shape.ffn,
        "num_attention_heads": shape.heads,
        "num_query_groups": shape.kv_heads,
        "kv_channels": shape.head_dim,
        "layernorm_epsilon": shape.norm_epsilon,
        "seq_length": shape.max_positions,
        "vocab_size": shape.vocab,
        "should_pad_vocab": True,
        "make_vocab_size_divisible_by": pad_vocab_to,
        "share_embeddings_and_output_weights": shape.tied,
        "activation_func": named(ACTIVATIONS[shape.activation]),
        "position_embedding_type": "rope",
        "rotary_base": int(base) if float(base).is_integer() else base,
        "rotary_percent": shape.rotary.share,
        **_scaling(shape.rotary.scaling),
        "qk_layernorm": bool(shape.qk_norm),
        # As Bridge converts it: Transformer Engine then lets a token see one more than transformers does.
        **({"window_size": [shape.windows[0], 0], "cp_comm_type": "a2a"} if shape.windows else {}),
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        **shape.transformer,
        **precision(dtype),
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
    }


def precision(dtype: torch.dtype) -> Settings:
    """The provider's settings of a dtype."""
    return {
        "params_dtype": named(str(dtype)),
        "pipeline_dtype": named(str(dtype)),
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
    }


def _scaling(scaling: Mapping[str, float]) -> Settings:
    if "linear" in scaling:
        return {"seq_len_interpolation_factor": scaling["linear"]}
    if not scaling:
        return {}
    for name, value in MEGATRON_LLAMA3.items():
        if scaling[name] != value:
            raise UserError(f"Megatron-Bridge: rope scaling with {name}={scaling[name]} is not covered, only {value}")
    return {"rope_scaling": True, "rope_scaling_factor": scaling["factor"]}
