"""Code of the ranks in tests of training data: read samples as a training would."""

from functools import partial
from pathlib import Path
from unittest import mock

import torch

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.train.batches import batches, read_ahead
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.prepare import start_layout, training_data
from nemo_adapt.train.samples import training_set
from nemo_adapt.train.suspects import write_suspects


def tokens(rank: int, config: Config, inputs: Inputs, steps: int, cache: Path) -> torch.Tensor:
    """Return the tokens of all samples of ``steps`` steps, [samples, seq], in the order in which this rank reads."""
    layout = start_layout(config)
    data = training_data(config, inputs, layout, config.train, steps, cache)
    read = partial(batches, data.samples, layout, boundaries=data.boundaries)
    return torch.cat([batch.tokens for step in read_ahead(read, range(steps)) for batch in step])


def document_numbers(rank: int, config: Config, inputs: Inputs, cache: Path) -> list[bool]:
    """Return whether each set still has the numbers of its documents once samples can be read."""
    layout = start_layout(config)
    sets = training_data(config, inputs, layout, config.train, 1, cache).samples.datasets
    return [each.indices is not None for each in sets]


def lengths(rank: int, config: Config, sets: list[tuple[Path, float]], samples: int, cache: Path) -> list[int]:
    """Return how many samples a blend of ``sets`` has, and how many each of them."""
    start_layout(config)
    blend = training_set(sets, samples, config.train, 2**16, cache)
    return [len(each) for each in (blend, *blend.datasets)]


def suspects(rank: int, config: Config, inputs: Inputs, cache: Path, numbers: list[int]) -> tuple[str, torch.Tensor]:
    """Return what ``write_suspects`` says of samples ``numbers`` of one step, and the tokens of these samples."""
    layout = start_layout(config)
    samples = training_data(config, inputs, layout, config.train, 1, cache).samples
    fence = Fence.claim(cache)
    said = write_suspects(samples, inputs["tokenizer"][0], fence, layout.global_batch, numbers)
    return said, torch.stack([samples[number]["tokens"] for number in numbers])


def tokens_on_a_full_disk(rank: int, config: Config, inputs: Inputs, cache: Path) -> str:
    """Return the error of reading when the order of the samples cannot be written."""
    full = OSError("4096 requested and 0 written")  # as numpy says it
    with mock.patch("numpy.save", side_effect=full):
        try:
            tokens(rank, config, inputs, 1, cache)
        except UserError as error:
            return str(error)
    return "it could be written"
