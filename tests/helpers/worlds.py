"""The small world's text and model, and settings for a short run through all stages."""

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
"""Settings of a run that takes seconds, to be started in a folder with ``runs/smallworld``."""


def small_world(place: Path) -> Path:
    """Write ``runs/smallworld`` in ``place``: a little text and a tiny untrained English model; return ``place``."""
    make(place / "runs" / "smallworld", documents=1500, vocab=400, hidden=192, layers=2)
    return place
