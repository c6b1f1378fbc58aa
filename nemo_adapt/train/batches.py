"""Training samples: Megatron's datasets, blended, read by their number, so that a restart goes on where it was."""

import json
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

from nemo_adapt.artifact import write_json
from nemo_adapt.config import TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.model.context import own_part
from nemo_adapt.train.together import first_rank_does

Batch = dict[str, torch.Tensor]
WHOLE = "whole.json"
"""In the folder of sample indices: the sizes of its files, once all are written."""
T = TypeVar("T")


@dataclass(frozen=True)
class BatchLayout:
    """How the samples of a step are shared out: ``global_batch`` = dp x micro batches x ``micro_batch``."""

    global_batch: int
    micro_batch: int
    dp_size: int
    dp_rank: int

    def samples(self, step: int) -> list[list[int]]:
        """Sample numbers of this rank's micro batches in ``step`` (counted from 0)."""
        share = self.global_batch // self.dp_size
        first = step * self.global_batch + self.dp_rank * share
        return [list(range(at, at + self.micro_batch)) for at in range(first, first + share, self.micro_batch)]


@dataclass(frozen=True)
class Boundaries:
    """What the ends of documents mean inside a sample; its first document may have begun in the sample before."""

    end: int = -1
    """The token that ends a document."""
    reset_positions: bool = False
    reset_attention: bool = False
    mask_ends: bool = False

    @classmethod
    def of(cls, train: TrainConfig, end: int) -> "Boundaries":
        """As the configuration has them."""
        return cls(end, train.reset_positions, train.reset_attention, train.mask_document_ends)

    def applied(self, batch: Batch) -> Batch:
        """``batch`` with ``position_ids``, and where asked for ``documents`` [micro batch, seq] (the number of each
        token's document) and ``counted`` [micro batch, seq] (true: the label counts in the loss).

        They mean what Megatron's ``reset_position_ids``, ``reset_attention_mask`` and ``eod_mask_loss`` mean
        (megatron/core/datasets/gpt_dataset.py), found for the whole batch at once. Attention goes by documents
        (``model.layers``): Megatron's masks would be seq x seq, and another copy for each layer.
        """
        tokens = batch["tokens"]
        ends = tokens == self.end
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        answer = {**batch, "position_ids": places}
        if self.reset_positions:
            begins = torch.where(ends, places + 1, 0).roll(1, dims=1)  # where a document begins: its own place
            begins[:, 0] = 0
            answer["position_ids"] = places - begins.cummax(dim=1).values
        if self.reset_attention:
            answer["documents"] = ends.cumsum(dim=1) - ends.long()  # an end belongs to what it ends
        if self.mask_ends:
            answer["counted"] = ~ends
        return answer


def check_whole(folder: Path) -> None:
    """``UserError`` where a set's file of tokens (of 2 or 4 bytes) is not as long as when it was written."""
    tokens = json.loads((folder / "counts.json").read_text(encoding="utf-8"))["tokens"]
    path = folder / f"{folder.name}.bin"
    found = path.stat().st_size if path.is_file() else 0
    if found not in (2 * tokens, 4 * tokens):
        raise UserError(
            f"{path} is damaged: {found:,} bytes are not {tokens:,} tokens; delete {folder}, then run the same again"
        )


def training_set(sets: list[tuple[Path, float]], samples: int, train: TrainConfig, vocab: int, cache: Path) -> Any:
    """Megatron's blend of the data folders ``sets`` (folder, weight), at least ``samples`` long.

    The order depends on the seed alone; a longer set begins like a shorter one. Needs the process group.
    """
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    prefixes = [str(folder / folder.name) for folder, _ in sets]
    # Megatron asks its tokenizer only for these; the text is already tokenized. Document boundaries are ours
    # (``Boundaries``): Megatron makes a mask of seq x seq for each sample, 64 ms at 4,096.
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
    first_rank_does(_drop_unless_whole, cache)
    built = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]
    first_rank_does(_note_whole, cache)
    return built


def _drop_unless_whole(cache: Path) -> None:
    """Megatron takes files of its cache that are there for whole, also where a start was killed while it wrote them."""
    try:
        known = json.loads((cache / WHOLE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = None
    if known != _sizes(cache):
        shutil.rmtree(cache, ignore_errors=True)


def _note_whole(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / WHOLE, _sizes(cache))


def _sizes(cache: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(cache.glob("*")) if file.name != WHOLE}


def batches(dataset: Any, layout: BatchLayout, step: int, boundaries: Boundaries | None = None) -> list[Batch]:
    """This rank's micro batches of one step: ``tokens`` and ``labels`` [micro batch, seq], ``position_ids`` (with 1 for
    the micro batch where all samples have the same), and what ``boundaries`` asks for; of sequences that ranks share,
    its part."""
    found = []
    for numbers in layout.samples(step):
        samples = [dataset[number] for number in numbers]
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels")}
        found.append(own_part((boundaries or Boundaries()).applied(batch)))
    return found


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A micro batch where it is computed. Attention asks for the lengths of documents: it would wait for a GPU."""
    return {key: values if key == "documents" else values.to(device) for key, values in batch.items()}


def read_ahead(read: Callable[[int], T], steps: range) -> Generator[T, None, None]:
    """``read(step)`` for each of ``steps``; a thread reads the next one while the caller trains on the last.

    A sample that the file system has to fetch takes milliseconds, and a step of a rank may have hundreds. What a read
    raises is raised here, at its step. The caller closes the iterator, if it does not go on to its end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as reader:
        asked = (reader.submit(read, step) for step in steps)
        this = next(asked, None)
        while this is not None:
            following = next(asked, None)
            yield this.result()
            this = following
