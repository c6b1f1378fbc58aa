"""Small models and configurations for tests of `nemo-adapt plan`, made from settings only."""

from dataclasses import replace
from typing import Any

from helpers.zoo import ZOO, architectures

from nemo_adapt import families
from nemo_adapt.config import Config, ParallelConfig, PhaseConfig, TrainConfig
from nemo_adapt.plan import model
from nemo_adapt.plan.model import Models

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "vocab_size": 2000,
}
"""Multiples of 64, as in real models: Megatron's buffers then need no padding between tensors."""
SMALL_GPT2 = {"n_embd": 256, "n_layer": 4, "n_head": 8, "n_positions": 512, "vocab_size": 2000}
SMALL_BLOOM = {"hidden_size": 256, "n_layer": 4, "n_head": 8, "vocab_size": 2000}
SMALL_XGLM = {"d_model": 256, "ffn_dim": 704, "num_layers": 4, "attention_heads": 8, "vocab_size": 2000}
OWN_NAMES = {"gpt2": SMALL_GPT2, "bloom": SMALL_BLOOM, "xglm": SMALL_XGLM}
HEAD_DIM = 64
WINDOW = 64


def settings(name: str = "llama", **changed: Any) -> dict[str, Any]:
    """Return the config.json of a small model of the zoo's kind ``name``."""
    found = {**ZOO[name]().to_dict(), "architectures": architectures(name)}
    found |= OWN_NAMES.get(name, SMALL)
    if found.get("head_dim"):
        found["head_dim"] = HEAD_DIM
    if found.get("sliding_window"):
        found["sliding_window"] = WINDOW
    if found.get("layer_types"):
        kinds = found["layer_types"]
        found["layer_types"] = [kinds[layer % len(kinds)] for layer in range(found["num_hidden_layers"])]
    return {**found, **changed}


def models_of(hf_config: dict[str, Any], new: int = 0) -> Models:
    """Return the base model of a config.json and the same with ``new`` more rows."""
    family = families.of(hf_config)
    source = family.shape(hf_config)
    target = replace(source, vocab=source.vocab + new)
    entries = family.entries(target)
    counts = model.count(family.entries(source), source), model.count(entries, target)
    return Models(source, target, entries, *counts, source.vocab, 2, "", "")


def plan_config(phase: str = "all", parallel: dict[str, Any] | None = None, **train: Any) -> Config:
    """Return a configuration of two micro batches of 256 tokens on each rank, in bf16."""
    config = Config()
    config.run.name = "planned"
    config.parallel = ParallelConfig(**(parallel or {}))
    size = {"seq_length": 128, "micro_batch": 2, "global_batch": 4 * config.parallel.dp, "precision": "bf16"}
    config.train = TrainConfig(phases=[PhaseConfig(phase, 10)], **{**size, **train})
    return config
