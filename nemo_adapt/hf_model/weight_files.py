"""Which files of a Hugging Face folder hold the model's weights, and how much room the weights need."""

import math
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.files import read_object

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
WEIGHTS_SHARE = 0.8
"""Share of a GPU's memory that weights may take: the rest is for logits, activations, and the cache of a generation."""


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights. A single file comes before an index, as in transformers.

    ``UserError`` if they are missing or the index is damaged. Other safetensors files beside them are not the model's:
    Mistral's folders have the same weights once more, in their own format.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not index.is_file():
        raise UserError(f"{folder} has no {SINGLE} and no {INDEX}: save the model with safetensors")
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise UserError(f"{index} is damaged: its weight_map names no files; download it again")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{index} names missing files: {', '.join(missing)}")
    return [folder / name for name in names]


def weight_bytes(folder: Path) -> int:
    """Return the size of a model's weights in its folder; ``UserError`` as from ``weight_files``."""
    return sum(file.stat().st_size for file in weight_files(folder))


def gpus_needed(folder: Path, memory: float) -> int:
    """Return how many GPUs of ``memory`` bytes hold a model's weights; ``UserError`` as from ``weight_files``."""
    return max(1, math.ceil(weight_bytes(folder) / (WEIGHTS_SHARE * memory)))
