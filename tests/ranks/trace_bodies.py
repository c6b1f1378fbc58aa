"""Body of a traced training, run on ranks."""

import gzip
import json
from contextlib import closing
from pathlib import Path

from helpers.folders import Folders
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, new_row_range

from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases
from nemo_adapt.train import loop
from nemo_adapt.train.trace import traced


def train(
    rank: int, config: Config, folders: Folders, vocab: int, out: Path, done: int, stop: int
) -> tuple[list[float], dict[str, int]]:
    """Train from step ``done`` + 1 to ``stop``; return the losses, and of this rank's trace (empty: none) the number of
    each event."""
    chunks = load_chunks(config, folders)
    steps = loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab), done)
    losses = []
    with closing(steps), closing(traced(steps, config.train.trace, done, out)) as training:
        for made in training:
            losses.append(made.result.nats)
            if made.step == stop:
                break
    file = out / f"rank_{rank}.json.gz"
    if not file.is_file():
        return losses, {}
    with gzip.open(file, "rt") as stream:
        events = [event["name"] for event in json.load(stream)["traceEvents"]]
    return losses, {name: events.count(name) for name in events}
