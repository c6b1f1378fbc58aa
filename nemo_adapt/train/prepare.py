"""What a training needs before its first step, shared with the probe's short trainings: layout, data, new rows."""

from collections.abc import Iterable
from pathlib import Path

import torch
from megatron.core import parallel_state

from nemo_adapt import devices, hf_tokenizer
from nemo_adapt.config import Config, PhaseConfig, TrainConfig
from nemo_adapt.config.layout import check_batch
from nemo_adapt.config.phases import NEW_ROWS, trained
from nemo_adapt.corpora import mixture
from nemo_adapt.corpora.mixture import text_sets
from nemo_adapt.errors import UserError
from nemo_adapt.model.build import DTYPES, start_parallel
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train.batches import BatchLayout, Boundaries
from nemo_adapt.train.loop import TrainingData
from nemo_adapt.train.new_rows import RowRange
from nemo_adapt.train.samples import check_token_file, training_set

OFTEN = 4
"""Up to so many passes, text is nearly worth as much as new text (Muennighoff et al. 2023, arXiv 2305.16264)."""


def start_layout(config: Config) -> BatchLayout:
    """Initialize Megatron's process groups on this rank; return how the batch is divided among them."""
    train = config.train
    if train.deterministic:
        devices.use_deterministic_kernels()
    dp_size = start_parallel(config.parallel, train.seed)
    check_batch(train, config.parallel, dp_size)  # under a launcher, dp_size follows from the number of ranks
    return BatchLayout(train.global_batch, train.micro_batch, dp_size, parallel_state.get_data_parallel_rank())


def new_row_range(tokenizer: Path, plan: list[PhaseConfig]) -> RowRange:
    """Return which table rows are new; ``UserError`` if a phase trains new rows and there are none."""
    token_map = TokenMap.load(tokenizer)
    if not token_map.tokens and any(NEW_ROWS in trained(phase).kinds for phase in plan):
        raise UserError("train.phases: nothing to train in a phase of new_rows, the tokenizer has no new tokens")
    return RowRange(token_map.source_vocab, token_map.target_vocab)


def bytes_per_token(config: Config, inputs: Inputs) -> float:
    """Return the average bytes of text per token of the mix, as counted when the text was tokenized."""
    return mixture.bytes_per_token(config, _folders(config, inputs))


def passes(config: Config, inputs: Inputs, steps: int) -> dict[str, float]:
    """Return how often each text set is read in a training of so many ``steps``."""
    return mixture.passes(config, _folders(config, inputs), steps * config.train.global_batch * config.train.seq_length)


def line_on_passes(passes: dict[str, float]) -> str:
    """Return a line for the user on how often each set is read."""
    line = "the training reads " + ", ".join(f"{name} {times:,.2f} times" for name, times in passes.items())
    often = [name for name, times in passes.items() if times > OFTEN]
    return line + (f": more than {OFTEN} times adds little, give more text of {', '.join(often)}" if often else "")


def line_on_rounding(dtypes: Iterable[torch.dtype], precision: str) -> str:
    """Return a line for the user if weights of these dtypes lose bits in ``train.precision``, else an empty string."""
    eps = torch.finfo(DTYPES[precision]).eps
    wider = {dtype for dtype in dtypes if dtype.is_floating_point and torch.finfo(dtype).eps < eps}
    names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in wider))
    return f"the base's {names} weights are rounded to {precision} (train.precision)" if names else ""


def _mix(config: Config, inputs: Inputs) -> list[tuple[Path, float]]:
    """Return the data folders, each with its share of the tokens."""
    folders = _folders(config, inputs)
    return [(folders[name], share) for name, share in mixture.token_shares(config, folders).items()]


def _folders(config: Config, inputs: Inputs) -> dict[str, Path]:
    """Return the data folder of each text set."""
    return {name: inputs[f"data.{name}"][0] for name in text_sets(config)}


def training_data(
    config: Config, inputs: Inputs, layout: BatchLayout, train: TrainConfig, steps: int, cache: Path
) -> TrainingData:
    """Return the blend of all text sets for ``steps`` steps, in the order given by ``train.seed``."""
    tokenizer = hf_tokenizer.load(inputs["tokenizer"][0])
    mix = _mix(config, inputs)
    for folder, _ in mix:
        check_token_file(folder)
    samples = training_set(mix, steps * train.global_batch, train, documents.vocabulary_size(tokenizer), cache)
    token_bytes = torch.from_numpy(documents.training_bytes(tokenizer, train.mask_document_ends))
    return TrainingData(
        samples, layout, token_bytes.to(devices.best_device()), Boundaries.of(train, documents.end_id(tokenizer))
    )
