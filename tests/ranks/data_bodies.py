"""What ranks do in tests of training data: read samples as a training would."""

from pathlib import Path

import torch

from nemo_adapt import devices
from nemo_adapt.artifact import Inputs
from nemo_adapt.config import Config
from nemo_adapt.train.batches import batches
from nemo_adapt.train.stage import start_layout, training_data


def tokens(rank: int, config: Config, inputs: Inputs, steps: int, cache: Path) -> torch.Tensor:
    """The tokens of all samples of ``steps`` steps, [samples, seq], in the order in which this rank reads them."""
    layout = start_layout(config)
    data = training_data(config, inputs, layout, config.train, steps, cache)
    device = devices.best_device()
    return torch.cat(
        [
            batch["tokens"]
            for step in range(steps)
            for batch in batches(data.samples, layout, step, device, data.boundaries)
        ]
    )
