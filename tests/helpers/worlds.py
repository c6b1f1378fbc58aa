"""A small world's text and model, and the words that make the road through it short."""

from pathlib import Path

from nemo_adapt.smallworld.make import make

SHORT = [
    "recipe=demo",
    "model.path=runs/smallworld/base",
    "tokenizer.new_tokens=100",
    "train.seq_length=64",
    "train.global_batch=8",
    "train.micro_batch=8",
    "train.log_every=2",
    "evaluate.max_bytes=2000",
    "evaluate.context=512",
    "export.shard_mib=1",
]
"""A run that takes seconds, in a folder with ``runs/smallworld`` in it."""


def small_world(place: Path) -> Path:
    """``runs/smallworld`` in ``place``: little text and a tiny untrained English model."""
    make(place / "runs" / "smallworld", documents=1500, vocab=400, hidden=192, layers=2)
    return place
