"""What ranks do in tests of the probe, and of scores of held-out text."""

from pathlib import Path
from typing import Any

from helpers.folders import Folders
from ranks.model_bodies import load_chunks

from nemo_adapt.config import Config
from nemo_adapt.train import held_out


def nats(rank: int, config: Config, folders: Folders, sequences: list[Any], window: int, batch: int) -> float:
    """The nats of all scored tokens, as this rank knows them. Scoring leaves a model that trains training."""
    chunks = load_chunks(config, folders)
    found = held_out.nats(chunks, sequences, window, batch, 257)
    assert all(module.training for chunk in chunks for module in chunk.modules())
    return found


def bits_per_byte(rank: int, config: Config, folders: Folders, text: Path) -> float | None:
    """What a probe says of a model that it has not trained."""
    scored = held_out.HeldOut.of(config, text, folders.model, config.probe.max_bytes)
    return scored.bits_per_byte(load_chunks(config, folders))
