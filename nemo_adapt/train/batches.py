"""Micro batches of a step, made of samples that are read by number, so that a restart continues where it stopped."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from nemo_adapt.config import TrainConfig
from nemo_adapt.model.context import own_part

Batch = dict[str, torch.Tensor]
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
