"""Folders of a tiny model with everything that is needed to load it in Megatron."""

from dataclasses import dataclass, field
from pathlib import Path

from helpers.tiny import TinyLlama, converted, make_llama, make_token_map


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
