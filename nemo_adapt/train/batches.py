"""Training samples: Megatron's datasets, blended, read by their number, so that a restart goes on where it was."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nemo_adapt.config import TrainConfig

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class BatchLayout:
    """How the samples of a step are shared out: ``global_batch`` = dp x micro batches x ``micro_batch``."""

    global_batch: int
    micro_batch: int
    dp_size: int
    dp_rank: int

    @property
    def micro_batches(self) -> int:
        """Micro batches of one data-parallel rank in one step."""
        return self.global_batch // (self.micro_batch * self.dp_size)

    def samples(self, step: int) -> list[list[int]]:
        """Sample numbers of this rank's micro batches in ``step`` (counted from 0)."""
        share = self.global_batch // self.dp_size
        first = step * self.global_batch + self.dp_rank * share
        return [list(range(at, at + self.micro_batch)) for at in range(first, first + share, self.micro_batch)]


def training_set(sets: list[tuple[Path, float]], samples: int, train: TrainConfig, vocab: int, cache: Path) -> Any:
    """Megatron's blend of the data folders ``sets`` (folder, weight), at least ``samples`` long.

    The order depends on the seed alone; a longer set begins like a shorter one. Needs the process group.
    """
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    prefixes = [str(folder / folder.name) for folder, _ in sets]
    # Megatron asks its tokenizer only for these; the text is already tokenized.
    tokenizer = SimpleNamespace(vocab_size=vocab, eod=-1, pad=-1, unique_identifiers={"vocab_size": vocab})
    config = GPTDatasetConfig(
        random_seed=train.seed,
        sequence_length=train.seq_length,
        blend_per_split=[(prefixes, [weight for _, weight in sets]), None, None],
        path_to_cache=str(cache),
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    return BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]


def batches(dataset: Any, layout: BatchLayout, step: int, device: torch.device) -> Iterator[Batch]:
    """This rank's micro batches of one step: ``tokens``, ``labels`` and ``position_ids``, each [micro batch, seq]."""
    for numbers in layout.samples(step):
        samples = [dataset[number] for number in numbers]
        yield {
            key: torch.stack([sample[key] for sample in samples]).to(device)
            for key in ("tokens", "labels", "position_ids")
        }
