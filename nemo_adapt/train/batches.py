"""Training samples: Megatron's datasets, blended, and read by number, so that a restart continues where it stopped."""

import json
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch

from nemo_adapt.config import TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.model.context import own_part
from nemo_adapt.train.collectives import first_rank_does

Batch = dict[str, torch.Tensor]
CACHE_SIZES = "whole.json"
"""File in the cache of sample indices that lists the size of every other file there; written last."""
INDEX_HEADER, INDEX_OF_DOCUMENT = 42, 20
"""Bytes of Megatron's .idx: magic, version, dtype, two counts and the first document's number; and for each document,
which is one sequence, its length (4), its offset and the next one's number (8 each) (indexed_dataset.py)."""
T = TypeVar("T")


@dataclass(frozen=True)
class BatchLayout:
    """How a step's samples are divided: ``global_batch`` = dp size x micro batches x ``micro_batch``."""

    global_batch: int
    micro_batch: int
    dp_size: int
    dp_rank: int

    def samples(self, step: int) -> list[list[int]]:
        """Return the sample numbers of each of this rank's micro batches in ``step`` (counted from 0)."""
        share = self.global_batch // self.dp_size
        first = step * self.global_batch + self.dp_rank * share
        return [list(range(at, at + self.micro_batch)) for at in range(first, first + share, self.micro_batch)]


@dataclass(frozen=True)
class Boundaries:
    """How document ends inside a sample are treated. The first document may have begun in the previous sample."""

    end: int = -1
    """Id of the token that ends a document."""
    reset_positions: bool = False
    reset_attention: bool = False
    mask_ends: bool = False

    @classmethod
    def of(cls, train: TrainConfig, end: int) -> "Boundaries":
        """Return the settings of ``train``, with ``end`` as the id of the token that ends a document."""
        return cls(end, train.reset_positions, train.reset_attention, train.mask_document_ends)

    def applied(self, batch: Batch) -> Batch:
        """Return ``batch`` with ``position_ids``, and if configured ``documents`` and ``counted`` [micro batch, seq].

        ``documents`` is the index of each token's document, ``counted`` is true where the label counts in the loss. The
        semantics are those of Megatron's ``reset_position_ids``, ``reset_attention_mask`` and ``eod_mask_loss``
        (megatron/core/datasets/gpt_dataset.py), computed for the whole batch at once. Attention uses document indices
        (``model.attention``): Megatron's masks would be seq x seq, with another copy for each layer.
        """
        tokens = batch["tokens"]
        ends = tokens == self.end
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        answer = {**batch, "position_ids": positions}
        if self.reset_positions:
            begins = torch.where(ends, positions + 1, 0).roll(1, dims=1)  # at a document's first token: its position
            begins[:, 0] = 0
            answer["position_ids"] = positions - begins.cummax(dim=1).values
        if self.reset_attention:
            answer["documents"] = ends.cumsum(dim=1) - ends.long()  # an end token belongs to the document it ends
        if self.mask_ends:
            answer["counted"] = ~ends
        return answer


def check_token_file(folder: Path) -> None:
    """Raise ``UserError`` unless a data set's token file (2 or 4 bytes per token) and its index have the sizes that
    they were written with."""
    counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    tokens, documents = counts["tokens"], counts["documents"]
    index = INDEX_HEADER + INDEX_OF_DOCUMENT * documents
    _check_size(folder, ".bin", (2 * tokens, 4 * tokens), f"{tokens:,} tokens")
    _check_size(folder, ".idx", (index,), f"an index of {documents:,} documents")


def _check_size(folder: Path, ending: str, sizes: tuple[int, ...], content: str) -> None:
    path = folder / f"{folder.name}{ending}"
    found = path.stat().st_size if path.is_file() else 0
    if found not in sizes:
        raise UserError(
            f"{path} is damaged: {found:,} bytes are not {content}; delete {folder}, then run the same command"
        )


def training_set(sets: list[tuple[Path, float]], samples: int, train: TrainConfig, vocab: int, cache: Path) -> Any:
    """Return Megatron's blend of the data folders ``sets`` (folder, weight), with at least ``samples`` samples.

    The order depends only on the seed and, once a text is used more than once, on ``samples``. Needs the process group.
    ``UserError`` if the order cannot be written to ``cache``.
    """
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    prefixes = [str(folder / folder.name) for folder, _ in sets]
    # The text is already tokenized: Megatron reads only these attributes of the tokenizer. ``Boundaries`` handles
    # document ends, as Megatron would build a seq x seq mask for each sample, 64 ms at 4,096 tokens.
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
    first_rank_does(_drop_incomplete, cache)
    try:
        built = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]
    except Exception as error:  # raised by Megatron, with other advice
        if not isinstance(error.__cause__, OSError):
            raise
        raise UserError(
            f"{cache}: the order of the samples could not be written ({error.__cause__}): is the disk full, or a quota "
            "used up? Make room, then run the same command"
        ) from None
    first_rank_does(_record_sizes, cache)
    return built


def _drop_incomplete(cache: Path) -> None:
    """Delete an incomplete cache: Megatron takes every file in it for complete, even one whose writer was killed."""
    try:
        known = json.loads((cache / CACHE_SIZES).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = None
    if known != _sizes(cache):
        shutil.rmtree(cache, ignore_errors=True)


def _record_sizes(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / CACHE_SIZES, _sizes(cache))


def _sizes(cache: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(cache.glob("*")) if file.name != CACHE_SIZES}


def batches(dataset: Any, layout: BatchLayout, step: int, boundaries: Boundaries | None = None) -> list[Batch]:
    """Return this rank's micro batches of one step.

    Each has ``tokens`` and ``labels`` [micro batch, seq], ``position_ids`` ([1, seq] if all samples share them), and
    what ``boundaries`` adds; under context parallelism only this rank's part of each sequence.
    """
    found = []
    for numbers in layout.samples(step):
        samples = [dataset[number] for number in numbers]
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in ("tokens", "labels")}
        found.append(own_part((boundaries or Boundaries()).applied(batch)))
    return found


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Move a micro batch to ``device``, except ``documents``: attention reads it, and would have to wait for a GPU."""
    return {key: values if key == "documents" else values.to(device) for key, values in batch.items()}


def read_ahead(read: Callable[[int], T], steps: range) -> Generator[T, None, None]:
    """Yield ``read(step)`` for each of ``steps``; a thread reads the next one while the caller trains on the current.

    Fetching a sample from the file system takes milliseconds, and a rank may need hundreds per step. An exception in
    ``read`` is raised here, at its step. The caller must close the iterator if it stops before the end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as reader:
        asked = (reader.submit(read, step) for step in steps)
        this = next(asked, None)
        while this is not None:
            following = next(asked, None)
            yield this.result()
            this = following
