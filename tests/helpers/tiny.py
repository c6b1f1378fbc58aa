"""Tiny models, token maps and configurations, made on the fly."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_adapt import convert
from nemo_adapt.config import Config
from nemo_adapt.tokens.token_map import NewToken, TokenMap


@dataclass(frozen=True)
class TinyLlama:
    """The parts of a Llama configuration that tests vary."""

    tied: bool = False
    kv_heads: int = 2
    vocab: int = 256
    heads: int = 4
    layers: int = 2

    def __str__(self) -> str:
        attention = "mha" if self.kv_heads == self.heads else "gqa"
        return f"{'tied' if self.tied else 'untied'}-{attention}-vocab{self.vocab}"


def make_llama(folder: Path, tiny: TinyLlama, dtype: torch.dtype = torch.float32) -> Path:
    """Write a random Llama as a Hugging Face folder; norms are random too, so that mixing them up is detected."""
    config = LlamaConfig(
        vocab_size=tiny.vocab,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        max_position_embeddings=64,
        tie_word_embeddings=tiny.tied,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + (1.0 if parameter.dim() == 1 else 0.0))
    model.to(dtype).save_pretrained(folder)
    return folder


def make_token_map(folder: Path, source_vocab: int, new: int) -> TokenMap:
    """Save a token map in ``folder`` with ``new`` tokens, each of three to five source pieces, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    tokens = [
        NewToken(
            id=source_vocab + index,
            token=f"token{index}",
            text=f"token{index}",
            source_ids=[int(piece) for piece in draw.integers(0, source_vocab, draw.integers(3, 6))],
            bytes=6,
            count=1,
        )
        for index in range(new)
    ]
    token_map = TokenMap(source_vocab, tokens)
    token_map.save(folder)
    return token_map


def tiny_config(**parallel: object) -> Config:
    """Return a configuration with a padding multiple that fits tiny vocabularies."""
    config = Config()
    config.resize.padded_vocab_multiple = 16
    for name, value in parallel.items():
        setattr(config.parallel, name, value)
    return config


def converted(model: Path, out: Path) -> Path:
    """Convert a model folder to a Megatron checkpoint in ``out``."""
    out.mkdir(parents=True)
    convert.build(Config(), {"model": [model]}, out)
    return out
