"""Tiny random transformers models of every family."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    ApertusConfig,
    ArceeConfig,
    AutoModelForCausalLM,
    BloomConfig,
    Cohere2Config,
    CohereConfig,
    Ernie4_5Config,
    Exaone4Config,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    GraniteMoeHybridConfig,
    HunYuanDenseV1Config,
    Jais2Config,
    LlamaConfig,
    Ministral3Config,
    MinistralConfig,
    MistralConfig,
    NemotronConfig,
    Olmo2Config,
    Olmo3Config,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SeedOssConfig,
    SmolLM3Config,
    Starcoder2Config,
    XGLMConfig,
)

from nemo_adapt.hf_model.model_config import read_shape

VOCAB = 250
"""Not a multiple of the padding, so that there are padded rows."""
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 2.0,
    "beta_slow": 0.25,
}


def common(kind: type[PreTrainedConfig], **changed: object) -> PreTrainedConfig:
    """Return a configuration with the settings that models like Llama share, and ``changed``."""
    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return kind(**{**settings, **changed})


ZOO: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: common(LlamaConfig),
    "llama with one key-value head": lambda: common(LlamaConfig, num_key_value_heads=1, tie_word_embeddings=True),
    "llama 3.1's rope": lambda: common(LlamaConfig, rope_parameters=LLAMA3_ROPE),
    "llama, rope stretched": lambda: common(
        LlamaConfig, rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
    ),
    "llama with yarn": lambda: common(
        LlamaConfig, rope_parameters={**YARN_ROPE, "truncate": False, "mscale": 0.7, "mscale_all_dim": 0.2}
    ),
    "mistral": lambda: common(MistralConfig, sliding_window=8, head_dim=16),
    "ministral": lambda: common(
        MinistralConfig, head_dim=16, sliding_window=8, layer_types=["full_attention", "sliding_attention"]
    ),
    "ministral3": lambda: common(
        Ministral3Config, head_dim=16, tie_word_embeddings=True,
        rope_parameters={**YARN_ROPE, "original_max_position_embeddings": 48, "mscale": 1.0, "mscale_all_dim": 1.0,
                         "llama_4_scaling_beta": 0.1},
    ),
    "qwen2": lambda: common(Qwen2Config, tie_word_embeddings=True),
    "qwen2 with a window": lambda: common(Qwen2Config, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "qwen2 with yarn": lambda: common(Qwen2Config, hidden_size=64, rope_parameters=YARN_ROPE),
    "qwen3": lambda: common(Qwen3Config, head_dim=16),
    "gemma": lambda: common(GemmaConfig, head_dim=8, num_key_value_heads=1, tie_word_embeddings=True),
    "gemma 7B's heads": lambda: common(GemmaConfig, head_dim=16, num_key_value_heads=4, tie_word_embeddings=True),
    "gemma2": lambda: common(
        Gemma2Config, head_dim=16, tie_word_embeddings=True, sliding_window=8, query_pre_attn_scalar=24,
        attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
    ),
    "gemma3": lambda: common(
        Gemma3TextConfig, head_dim=16, num_hidden_layers=4, sliding_window_pattern=2, tie_word_embeddings=True,
        sliding_window=8, query_pre_attn_scalar=24,
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        },
    ),
    "phi": lambda: common(
        PhiConfig, hidden_size=80, num_key_value_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.4},
    ),
    "phi3": lambda: common(Phi3Config, sliding_window=8),
    "phi3, half rotated": lambda: common(
        Phi3Config, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}
    ),
    "phi3 with longrope": lambda: common(
        Phi3Config, original_max_position_embeddings=36, tie_word_embeddings=True,
        rope_parameters={"type": "longrope", "rope_type": "longrope", "rope_theta": 500.0,
                         "partial_rotary_factor": 0.75, "short_factor": [1.0, 1.5, 2.5],
                         "long_factor": [1.0, 3.0, 9.0]},
    ),
    "olmo2": lambda: common(Olmo2Config, num_key_value_heads=4),
    "olmo3": lambda: common(
        Olmo3Config, hidden_size=64, num_key_value_heads=4, num_hidden_layers=4, sliding_window=8,
        rope_parameters={
            "full_attention": {**YARN_ROPE, "rope_theta": 500_000.0, "attention_factor": 1.3},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500_000.0},
        },
    ),
    "exaone4": lambda: common(
        Exaone4Config, head_dim=16, num_hidden_layers=4, sliding_window=8, sliding_window_pattern=2,
        rope_parameters=LLAMA3_ROPE,
    ),
    "exaone4 without windows": lambda: common(
        Exaone4Config, sliding_window=None, sliding_window_pattern=None, tie_word_embeddings=True,
        layer_types=["full_attention"] * 2,
    ),
    "smollm3": lambda: common(
        SmolLM3Config, num_hidden_layers=4, no_rope_layers=[1, 0, 0, 1], tie_word_embeddings=True
    ),
    "smollm3 with windows": lambda: common(
        SmolLM3Config, no_rope_layers=[1, 0], use_sliding_window=True, sliding_window=8
    ),
    "smollm3 with yarn": lambda: common(SmolLM3Config, head_dim=16, no_rope_layers=[1, 0], rope_parameters=YARN_ROPE),
    "seed_oss": lambda: common(SeedOssConfig, head_dim=16, attention_dropout=0.0, residual_dropout=0.0),
    "glm": lambda: common(
        GlmConfig, head_dim=16, tie_word_embeddings=True, rope_parameters={**YARN_ROPE, "partial_rotary_factor": 0.5}
    ),
    "glm4": lambda: common(Glm4Config, head_dim=16, attention_bias=False),
    "hunyuan_v1_dense": lambda: common(
        HunYuanDenseV1Config, head_dim=16, tie_word_embeddings=True,
        rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0, "alpha": 50.0, "factor": 1.0},
    ),
    "ernie4_5": lambda: common(Ernie4_5Config, head_dim=16, rope_parameters=YARN_ROPE),
    "granite": lambda: common(
        GraniteConfig, tie_word_embeddings=True, embedding_multiplier=6.0, attention_multiplier=0.25,
        residual_multiplier=0.3, logits_scaling=3.0,
    ),
    "granite with factors of 1": lambda: common(GraniteConfig, rope_parameters=LLAMA3_ROPE),
    "granitemoehybrid": lambda: common(
        GraniteMoeHybridConfig, tie_word_embeddings=True, num_local_experts=0, position_embedding_type="rope",
        layer_types=["full_attention"] * 2, shared_intermediate_size=56, mamba_n_heads=8, time_step_limit=[0.0, 1.0],
        embedding_multiplier=6.0, attention_multiplier=0.25, residual_multiplier=0.3, logits_scaling=3.0,
    ),
    "cohere": lambda: common(
        CohereConfig, tie_word_embeddings=True, logit_scale=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    ),
    "cohere with yarn": lambda: common(
        CohereConfig, head_dim=16, rope_parameters=YARN_ROPE, use_qk_norm=True, num_key_value_heads=4
    ),
    "cohere2": lambda: common(
        Cohere2Config, num_hidden_layers=4, tie_word_embeddings=True, sliding_window=8, logit_scale=0.25
    ),
    "nemotron": lambda: common(NemotronConfig, head_dim=16),
    "nemotron, tied": lambda: common(
        NemotronConfig, tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0, "partial_rotary_factor": 1.0},
    ),
    "arcee": lambda: common(ArceeConfig, head_dim=16, rope_parameters=YARN_ROPE),
    "jais2": lambda: common(Jais2Config, num_key_value_heads=4, tie_word_embeddings=True),
    "starcoder2": lambda: common(Starcoder2Config, sliding_window=8),
    "apertus": lambda: common(ApertusConfig, head_dim=16, rope_parameters=LLAMA3_ROPE),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    ),
    "gpt_neox": lambda: common(GPTNeoXConfig, hidden_size=64, hidden_act="gelu"),
    "gpt_neox without parallel layers": lambda: common(
        GPTNeoXConfig, hidden_size=48, use_parallel_residual=False, hidden_act="gelu_fast", tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0, "partial_rotary_factor": 0.5},
    ),
    "falcon": lambda: common(FalconConfig, ffn_hidden_size=48),
    "falcon 40B": lambda: common(
        FalconConfig, new_decoder_architecture=True, num_kv_heads=2, tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
    ),
    "bloom": lambda: BloomConfig(vocab_size=VOCAB, hidden_size=48, n_layer=2, n_head=12, pad_token_id=0),
    "xglm": lambda: XGLMConfig(
        vocab_size=VOCAB, d_model=32, ffn_dim=48, num_layers=2, attention_heads=4, max_position_embeddings=64,
        dropout=0.0, attention_dropout=0.0,
    ),
}  # fmt: skip
"""Name -> configuration; a name begins with that of the family."""
ZERO_CENTERED = ("gemma", "nemotron")
"""Families whose norms add 1 to their weights themselves."""


def make(folder: Path, name: str, dtype: torch.dtype = torch.float32, vocab: int = VOCAB) -> Path:
    """Write the model as a Hugging Face folder; norms and biases are random too, so that mixing them up is detected."""
    torch.manual_seed(0)
    config = ZOO[name]()
    config.vocab_size = vocab
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for tensor_name, parameter in model.named_parameters():
            is_weight_of_norm = parameter.dim() == 1 and "bias" not in tensor_name
            middle = 1.0 if is_weight_of_norm and not name.startswith(ZERO_CENTERED) else 0.0
            parameter.copy_(torch.randn_like(parameter) * 0.1 + middle)
    model.to(dtype).save_pretrained(folder)
    return folder


def reference(folder: Path, ids: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return transformers' logits of ``ids[:, :-1]`` ([batch, seq + 1]) and gradients of the mean loss by the names
    that its files have."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").train()
    logits = model(ids[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    names = read_shape(folder)[0].names(gradients)
    return logits.detach(), {names[name]: gradient for name, gradient in gradients.items()}


def architectures(name: str) -> list[str]:
    """Return ``architectures`` of the model's config.json."""
    return [type(AutoModelForCausalLM.from_config(ZOO[name]())).__name__]
