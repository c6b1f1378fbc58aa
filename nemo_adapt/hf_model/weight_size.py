"""How much room the weights of a Hugging Face model need."""

import math
from pathlib import Path

WEIGHTS_SHARE = 0.8
"""Share of a GPU's memory that weights may take: the rest is for logits, activations, and the cache of a generation."""


def weight_bytes(folder: Path) -> int:
    """Return the size of a model's weights in its folder."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def gpus_needed(folder: Path, memory: float) -> int:
    """Return how many GPUs of ``memory`` bytes hold a model's weights."""
    return max(1, math.ceil(weight_bytes(folder) / (WEIGHTS_SHARE * memory)))
