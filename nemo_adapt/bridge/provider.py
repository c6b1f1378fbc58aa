"""A model's settings in the form of Megatron-Bridge's model providers, as Bridge writes them to YAML.

Each family's provider is the one that Bridge's own conversion creates from its config.json
(megatron/bridge/models/conversion/model_bridge.py and the files beside it, 0.3.1).
"""

from collections.abc import Mapping

import torch

from nemo_adapt.config import megatron_settings
from nemo_adapt.config.megatron_settings import Settings
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape

MODELS = "megatron.bridge.models"
GPT = f"{MODELS}.gpt_provider.GPTModelProvider"
PROVIDERS = {
    "llama": GPT,
    "mistral": f"{MODELS}.mistral.mistral_provider.MistralModelProvider",
    "qwen2": GPT,
    "qwen3": GPT,
}
"""Family -> Bridge's class. Its others (Gemma) cannot be built without Transformer Engine."""
ACTIVATIONS = {"silu": "torch.nn.functional.silu"}
MEGATRON_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Values that megatron-core's Llama 3 rotary positions assume (rotary_pos_embedding.py)."""


def named(target: str) -> Settings:
    """Return a reference to a Python object by its name, in the form of Bridge's YAML."""
    return {"_target_": target, "_call_": False}


def provider(family: Family, shape: Shape, dtype: torch.dtype, pad_vocab_to: int = 1) -> Settings:
    """Return the provider of a model of ``shape``, whose weights are ``dtype``, for one rank.

    Bridge pads its tables to a multiple of ``pad_vocab_to`` times TP when it builds the model, and reads checkpoints
    without padded rows. ``UserError`` for a model that Bridge does not have, or implements differently.
    """
    if family.name not in PROVIDERS:
        raise UserError(f"Megatron-Bridge: {family.name} models are not covered (covered: {', '.join(PROVIDERS)})")
    if shape.windows and (family.name != "mistral" or len(set(shape.windows)) > 1):
        raise UserError(f"Megatron-Bridge has no attention windows for {family.name} models like this one")
    assert shape.rotary
    base = shape.rotary.base
    return {
        "_target_": PROVIDERS[family.name],
        **megatron_settings.sizes(shape),
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
        # As in Bridge's conversion: with it Transformer Engine lets a token see one more than transformers.
        **({"window_size": [shape.windows[0], 0], "cp_comm_type": "a2a"} if shape.windows else {}),
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        **shape.transformer,
        **precision(dtype),
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
    }


def precision(dtype: torch.dtype) -> Settings:
    """Return the provider's settings for a dtype."""
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
    if not scaling.keys() >= MEGATRON_LLAMA3.keys():
        raise UserError("Megatron-Bridge: rope scaling 'yarn' is not covered")
    for name, value in MEGATRON_LLAMA3.items():
        if scaling[name] != value:
            raise UserError(f"Megatron-Bridge: rope scaling with {name}={scaling[name]} is not covered, only {value}")
    return {"rope_scaling": True, "rope_scaling_factor": scaling["factor"]}
