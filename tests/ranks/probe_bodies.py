"""Code of the ranks in tests of the probe and of scoring held-out text."""

from pathlib import Path
from typing import Any

from helpers.folders import Folders
from ranks.model_bodies import load_chunks

from nemo_adapt.config import Config
from nemo_adapt.train import held_out


def nats(rank: int, config: Config, folders: Folders, sequences: list[Any], window: int, batch: int) -> float:
    """Return the nats of all scored tokens on this rank; asserts that scoring leaves the model in training mode."""
    chunks = load_chunks(config, folders)
    found = held_out.nats(chunks, sequences, window, batch, 257)
    assert all(module.training for chunk in chunks for module in chunk.modules())
    return found


def bits_per_byte(rank: int, config: Config, folders: Folders, text: Path) -> float | None:
    """Return a probe's score of the untrained model."""
    scored = held_out.HeldOut.of(config, text, folders.model, config.probe.max_bytes, folders.model)
    return scored.bits_per_byte(load_chunks(config, folders))
