"""Folders of a tiny model with everything that is needed to load it in Megatron."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map
from safetensors.torch import load_file

from nemo_adapt.config import ExportConfig
from nemo_adapt.export import export_checkpoint

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Folders:
    """The folders of a test's model."""

    model: Path
    checkpoint: Path
    tokenizer: Path
    auxiliary: dict[str, Path] = field(default_factory=dict)
    """Auxiliary data by kind, if the strategy needs any."""


def folders_of(place: Path, tiny: TinyLlama, new: int = 0) -> Folders:
    """Make a tiny model, convert it, and write a token map of ``new`` tokens; all in ``place``."""
    model = make_llama(place / "model", tiny)
    make_token_map(place / "tokenizer", tiny.vocab, new)
    return Folders(model, converted(model, place / "convert"), place / "tokenizer")


def exported(folders: Folders, checkpoint: Path, out: Path) -> Tensors:
    """Export a checkpoint of the model into the new folder ``out``, and return the tensors in it by name."""
    out.mkdir()
    export_checkpoint(checkpoint, folders.model, folders.tokenizer, out, ExportConfig())
    return load_file(out / "model.safetensors")


def assert_same(one: Tensors, other: Tensors) -> None:
    """Assert that two models have the same tensors: names, dtypes and bits."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name
