"""Models, logits and token ids by transformers 4 or 5: run by benchmarks/transformers4.py with either one's Python.

    python hugging_face.py make FOLDER              tiny random models, FOLDER/NAME
    python hugging_face.py logits FOLDER OUT.npz    of every model in FOLDER, on the same ids
    python hugging_face.py texts FOLDER TEXT OUT    ids and decoded lines of TEXT, by every tokenizer in FOLDER

Logits are saved as one array per model, texts as OUT/NAME.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

COMMON = {
    "vocab_size": 250, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
GPT2 = {
    "vocab_size": 250, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MODELS = {
    "llama": ("Llama", COMMON),
    "llama, another theta": ("Llama", {**COMMON, "rope_theta": 500.0}),
    "llama 3.1's rope": ("Llama", {**COMMON, "rope_theta": 500.0, "rope_scaling": LLAMA3_ROPE}),
    "llama, rope stretched": ("Llama", {**COMMON, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("Mistral", {**COMMON, "sliding_window": 8, "head_dim": 16, "rope_theta": 500.0}),
    "qwen2": ("Qwen2", {**COMMON, "tie_word_embeddings": True, "rope_theta": 500.0}),
    "qwen2 with a window": (
        "Qwen2", {**COMMON, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {**COMMON, "head_dim": 16, "rope_theta": 500.0}),
    "gemma": ("Gemma", {**COMMON, "head_dim": 16, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {
        **COMMON, "head_dim": 16, "tie_word_embeddings": True, "sliding_window": 8, "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
    }),
    "phi3": ("Phi3", {**COMMON, "sliding_window": 8, "rope_theta": 500.0}),
    "phi3, half rotated": ("Phi3", {**COMMON, "partial_rotary_factor": 0.5}),
    "phi3 with longrope": ("Phi3", {
        **COMMON, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 36, "rope_theta": 500.0,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5, 2.5], "long_factor": [1.0, 3.0, 9.0]},
    }),
    "olmo2": ("Olmo2", {**COMMON, "num_key_value_heads": 4, "rope_theta": 500.0}),
    "gemma3_text": ("Gemma3Text", {
        **COMMON, "head_dim": 16, "num_hidden_layers": 4, "sliding_window_pattern": 2, "tie_word_embeddings": True,
        "sliding_window": 8, "query_pre_attn_scalar": 24, "rope_theta": 500.0, "rope_local_base_freq": 100.0,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    }),
    "phi": ("Phi", {**COMMON, "hidden_size": 80, "num_key_value_heads": 4, "partial_rotary_factor": 0.4}),
    "olmo3": ("Olmo3", {**COMMON, "num_key_value_heads": 4, "sliding_window": 8, "rope_theta": 500_000.0}),
    "ministral": ("Ministral", {
        **COMMON, "head_dim": 16, "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"],
        "rope_theta": 500.0,
    }),
    "exaone4": ("Exaone4", {
        **COMMON, "num_hidden_layers": 4, "sliding_window": 8, "sliding_window_pattern": "LG", "rope_theta": 500.0,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    }),
    "seed_oss": ("SeedOss", {**COMMON, "head_dim": 16, "rope_theta": 500.0}),
    "smollm3": ("SmolLM3", {**COMMON, "no_rope_layers": [1, 0], "rope_theta": 500.0}),
    "glm": ("Glm", {**COMMON, "head_dim": 16, "partial_rotary_factor": 0.25, "rope_theta": 500.0}),
    "glm4": ("Glm4", {**COMMON, "head_dim": 16, "attention_bias": False, "rope_theta": 500.0}),
    "hunyuan_v1_dense": ("HunYuanDenseV1", {
        **COMMON, "head_dim": 16, "rope_theta": 100.0,
        "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
    }),
    "ernie4_5": ("Ernie4_5", {**COMMON, "head_dim": 16, "rope_theta": 500.0}),
    "granite": ("Granite", {
        **COMMON, "embedding_multiplier": 6.0, "attention_multiplier": 0.25, "residual_multiplier": 0.3,
        "logits_scaling": 3.0, "rope_theta": 500.0,
    }),
    "granitemoehybrid": ("GraniteMoeHybrid", {
        **COMMON, "num_local_experts": 0, "position_embedding_type": "rope", "layer_types": ["attention"] * 2,
        "shared_intermediate_size": 48, "mamba_n_heads": 8, "embedding_multiplier": 6.0, "attention_multiplier": 0.25,
        "residual_multiplier": 0.3, "logits_scaling": 3.0, "rope_theta": 500.0,
    }),
    "cohere": ("Cohere", {**COMMON, "tie_word_embeddings": True, "logit_scale": 0.3, "rope_theta": 500.0}),
    "cohere with norms": ("Cohere", {**COMMON, "use_qk_norm": True, "rope_theta": 500.0}),
    "cohere2": ("Cohere2", {
        **COMMON, "num_hidden_layers": 4, "tie_word_embeddings": True, "sliding_window": 8, "logit_scale": 0.25,
        "rope_theta": 500.0,
    }),
    "nemotron": ("Nemotron", {**COMMON, "head_dim": 16, "rope_theta": 500.0}),
    "apertus": ("Apertus", {**COMMON, "head_dim": 16, "rope_theta": 500.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }}),
    "arcee": ("Arcee", {**COMMON, "head_dim": 16, "rope_theta": 500.0}),
    "starcoder2": ("Starcoder2", {**COMMON, "sliding_window": 8, "rope_theta": 500.0}),
    "gpt2": ("GPT2", GPT2),
    "gpt_neox": ("GPTNeoX", {**COMMON, "hidden_size": 64, "rotary_emb_base": 500.0}),
    "gpt_neox without parallel layers": (
        "GPTNeoX", {**COMMON, "hidden_size": 64, "use_parallel_residual": False, "rotary_pct": 0.5},
    ),
    "falcon": ("Falcon", {**COMMON, "rope_theta": 500.0}),
    "falcon 40B": ("Falcon", {**COMMON, "new_decoder_architecture": True, "num_kv_heads": 2, "rope_theta": 500.0}),
    "bloom": ("Bloom", {"vocab_size": 250, "hidden_size": 48, "n_layer": 2, "n_head": 12, "pad_token_id": 0}),
    "xglm": ("XGLM", {
        "vocab_size": 250, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4,
        "max_position_embeddings": 64,
    }),
}  # fmt: skip
"""Name (beginning with the family's) -> class of its configuration, and settings with transformers 4's key names."""
ZERO_CENTERED = ("Gemma", "Nemotron")
"""Families whose norms add 1 to their weights themselves."""

ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def make(folder: Path) -> None:
    for name, (kind, settings) in MODELS.items():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(getattr(transformers, f"{kind}Config")(**settings))
        with torch.no_grad():
            for tensor, parameter in model.named_parameters():
                # Norms and biases are random too, so that mixing them up is detected.
                middle = float(parameter.dim() == 1 and not kind.startswith(ZERO_CENTERED) and "bias" not in tensor)
                drawn = torch.randn_like(parameter) * 0.1 + middle
                # transformers 4 has the numbers of Apertus' activation in bf16 alone.
                parameter.copy_(drawn.bfloat16() if "act_fn" in tensor else drawn)
        model.save_pretrained(folder / name)


@torch.no_grad()
def logits(folder: Path, out: Path) -> None:
    ids = torch.randint(0, COMMON["vocab_size"], (2, 32), generator=torch.Generator().manual_seed(0))
    found = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        model = AutoModelForCausalLM.from_pretrained(place, attn_implementation="eager").float().eval()
        found[place.name] = model(ids).logits.numpy()
    np.savez(out, **found)


def texts(folder: Path, text: Path, out: Path) -> None:
    lines = text.read_text(encoding="utf-8").split("\n")
    for place in sorted(folder.iterdir()):
        tokenizer = AutoTokenizer.from_pretrained(place)
        ids = tokenizer(lines)["input_ids"]
        found = {
            "tokens": len(tokenizer),
            "special": [*(getattr(tokenizer, role) for role in ROLES), *sorted(tokenizer.all_special_tokens)],
            "template": tokenizer.chat_template,
            "ids": ids,
            "bare": tokenizer(lines, add_special_tokens=False)["input_ids"],
            "decoded": tokenizer.batch_decode(ids, skip_special_tokens=True),
        }
        (out / f"{place.name}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    {"make": make, "logits": logits, "texts": texts}[sys.argv[1]](*map(Path, sys.argv[2:]))
