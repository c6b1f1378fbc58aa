"""Micro batches of a step, made of samples that are read by number, so that a restart continues where it stopped."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from nemo_adapt.config import TrainConfig
from nemo_adapt.model.context import own_part

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """A micro batch, or this rank's part of it."""

    tokens: torch.Tensor
    """[micro batch, seq]; under context parallelism, a rank's part has fewer positions."""
    labels: torch.Tensor
    """[micro batch, seq]: the token that follows each."""
    positions: torch.Tensor
    """[micro batch, seq], or [1, seq] if all samples share them: position ids."""
    documents: torch.Tensor | None = None
    """[micro batch, whole seq]: index of each token's document, if documents must not see each other. Whole under
    context parallelism, because keys are gathered; on the CPU, because attention reads it and would wait for a GPU."""
    counted: torch.Tensor | None = None
    """[micro batch, seq]: whether the label counts in the loss; ``None``: all do."""

    def own_part(self) -> "Batch":
        """Return what this rank of a context-parallel group needs."""
        return self._changed(own_part)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``, except ``documents``."""
        return self._changed(lambda values: values.to(device))

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        counted = None if self.counted is None else change(self.counted)
        tokens, labels, positions = map(change, (self.tokens, self.labels, self.positions))
        return replace(self, tokens=tokens, labels=labels, positions=positions, counted=counted)


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

    def batch(self, tokens: torch.Tensor, labels: torch.Tensor) -> Batch:
        """Return the micro batch of ``tokens`` and ``labels`` [micro batch, seq].

        The semantics are those of Megatron's ``reset_position_ids``, ``reset_attention_mask`` and ``eod_mask_loss``
        (megatron/core/datasets/gpt_dataset.py), computed for the whole batch at once. Attention uses document indices
        (``model.attention``): Megatron's masks would be seq x seq, with another copy for each layer.
        """
        ends = tokens == self.end
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        if self.reset_positions:
            begins = torch.where(ends, positions + 1, 0).roll(1, dims=1)  # at a document's first token: its position
            begins[:, 0] = 0
            positions = positions - begins.cummax(dim=1).values
        documents = ends.cumsum(dim=1) - ends.long() if self.reset_attention else None  # an end token ends its document
        return Batch(tokens, labels, positions, documents, ~ends if self.mask_ends else None)


@dataclass(frozen=True)
class NoSamples:
    """In place of the samples where a pipeline stage needs only their shape: each is ``length`` tokens 0."""

    length: int

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return dict.fromkeys(("tokens", "labels"), torch.zeros(self.length, dtype=torch.long))


def batches(dataset: Any, layout: BatchLayout, step: int, boundaries: Boundaries | None = None) -> list[Batch]:
    """Return this rank's micro batches of a step; a sample of ``dataset`` has ``tokens`` and ``labels``, both [seq]."""
    found = []
    for numbers in layout.samples(step):
        samples = [dataset[number] for number in numbers]
        tokens, labels = (torch.stack([sample[name] for sample in samples]) for name in ("tokens", "labels"))
        found.append((boundaries or Boundaries()).batch(tokens, labels).own_part())
    return found


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
