"""A tiny model with everything that loading it in Megatron needs, in folders."""

from dataclasses import dataclass, field
from pathlib import Path

from helpers.tiny import TinyLlama, converted, make_llama, make_token_map


@dataclass(frozen=True)
class Folders:
    """Where a test's model lies."""

    model: Path
    checkpoint: Path
    tokenizer: Path
    auxiliary: dict[str, Path] = field(default_factory=dict)
    """Auxiliary data by kind, where the strategy needs some."""


def folders_of(place: Path, tiny: TinyLlama, new: int = 0) -> Folders:
    """A tiny model, converted, with a token map of ``new`` tokens."""
    model = make_llama(place / "model", tiny)
    make_token_map(place / "tokenizer", tiny.vocab, new)
    return Folders(model, converted(model, place / "convert"), place / "tokenizer")
