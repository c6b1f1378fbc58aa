"""What ranks do in tests of the probe."""

from typing import Any

from helpers.folders import Folders
from ranks.model_bodies import load

from nemo_adapt.config import Config
from nemo_adapt.probe import score


def nats(rank: int, config: Config, folders: Folders, sequences: list[Any], window: int, batch: int) -> float:
    """The nats of all scored tokens, as this rank knows them."""
    return score.nats(load(config, folders), sequences, window, batch, 257)
