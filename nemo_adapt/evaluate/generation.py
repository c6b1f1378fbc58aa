"""Greedy generation in batches with a key-value cache, and its speed: examples, tokens and bytes per second.

Prompts of similar length share a batch, padded on the left. A text ends at the end token, at a line end if one line is
wanted, or once it has enough bytes, so that models with different tokenizers write about the same amount of text.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, StoppingCriteria, StoppingCriteriaList

from nemo_adapt import devices
from nemo_adapt.console.progress import Bar
from nemo_adapt.tokens import documents


@dataclass(frozen=True)
class Written:
    """A model's continuation of a prompt: text, number of tokens, UTF-8 bytes, new tokens, and seconds."""

    text: str
    tokens: int
    bytes: int
    new: int
    seconds: float = 0.0
    """Its share of the time of its batch (``shares``)."""


@dataclass(frozen=True)
class Generation:
    """All continuations, in the order of the prompts, and the seconds that they took together."""

    written: list[Written] = field(default_factory=list)
    seconds: float = 0.0
    cut: int = 0
    """Number of prompts that were too long for the model and lost their beginning."""


@dataclass(frozen=True)
class Limits:
    """Limits on what is written after each prompt."""

    most_tokens: int
    most_bytes: int = 0
    """Stop once the text has this many bytes (0: no limit)."""
    one_line: bool = False


class _LimitReached(StoppingCriteria):
    """Stopping criterion: a text is finished when the weights of its new tokens sum to at least ``limit``."""

    def __init__(self, weights: torch.Tensor, begin: int, limit: int) -> None:
        self.weights, self.begin, self.limit = weights, begin, limit

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return self.weights[input_ids[:, self.begin :]].sum(dim=1) >= self.limit


def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    limits: Limits,
    batch: int,
    positions: int | None = None,
    new_ids: Collection[int] = (),
    title: str = "writing",
) -> Generation:
    """Continue each prompt greedily, ``batch`` prompts at a time.

    ``positions`` is the model's context length (``None``: unlimited). A prompt that leaves no room for the answer loses
    its first tokens after the start token. A warm-up call, which is slow, is not timed.
    """
    contents = documents.token_contents(tokenizer)
    size = max(len(contents), model.config.get_text_config().vocab_size)
    limit = limits.most_bytes or 1 << 30
    weights = torch.zeros(size, dtype=torch.long)
    for number, content in enumerate(contents):
        weights[number] = limit if limits.one_line and b"\n" in content else len(content) if limits.most_bytes else 0
    weights = weights.to(model.device)
    room = (positions or 1 << 30) - limits.most_tokens
    sequences, cut = _prompts(tokenizer, prompts, max(room, (positions or 1 << 30) // 2))
    order = sorted(range(len(prompts)), key=lambda number: -len(sequences[number]))
    written: dict[int, Written] = {}
    if not order:
        return Generation()
    _batch(model, [sequences[order[-1]]], weights, Limits(1), limit, positions)
    devices.synchronize()
    began = time.perf_counter()
    with Bar(title, len(prompts), "texts") as bar:
        for start in range(0, len(order), batch):
            rows, before = order[start : start + batch], time.perf_counter()
            found = _batch(model, [sequences[row] for row in rows], weights, limits, limit, positions)
            took = time.perf_counter() - before
            read = [_read(ids, contents, documents.end_id(tokenizer), new_ids, limits.one_line) for ids in found]
            for row, one, seconds in zip(rows, read, shares([each.tokens for each in read], took), strict=True):
                written[row] = replace(one, seconds=seconds)
            bar.advance(len(rows))
    devices.synchronize()
    return Generation([written[row] for row in range(len(prompts))], time.perf_counter() - began, cut)


def shares(tokens: Sequence[int], seconds: float) -> list[float]:
    """Divide a batch's time among its texts: the texts still being written share the time of a step equally.

    ``tokens``: tokens written per text. Processing the prompt counts as one more step.
    """
    steps = np.array(tokens) + 1
    writing = (steps[:, None] > np.arange(steps.max())).sum(axis=0)
    parts = np.cumsum(1 / writing)[steps - 1] / len(writing)
    return [seconds * float(part) for part in parts]


def _prompts(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], most: int) -> tuple[list[list[int]], int]:
    """Return the ids of each prompt, at most ``most``, and the number of prompts cut to fit."""
    start = documents.start_id(tokenizer)
    encoded = documents.encode(tokenizer, prompts)
    kept = [[start, *ids[max(0, len(ids) + 1 - most) :]] for ids in encoded]
    return kept, sum(len(short) <= len(ids) for short, ids in zip(kept, encoded, strict=True))


@torch.inference_mode()
def _batch(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    weights: torch.Tensor,
    limits: Limits,
    limit: int,
    positions: int | None,
) -> list[list[int]]:
    """Return the ids generated after each prompt, without those that follow the end of a finished text."""
    length = max(map(len, sequences))
    given = torch.zeros(len(sequences), length, dtype=torch.long)
    mask = torch.zeros_like(given)
    for row, ids in enumerate(sequences):
        given[row, length - len(ids) :] = torch.tensor(ids)
        mask[row, length - len(ids) :] = 1
    room = min(limits.most_tokens, (positions or 1 << 30) - length)
    if room < 1:
        return [[] for _ in sequences]
    enough = StoppingCriteriaList([_LimitReached(weights, length, limit)])
    found = model.generate(
        given.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=room, stopping_criteria=enough
    )[:, length:]
    totals = weights[found].cumsum(dim=1)
    ended = (totals >= limit).int().argmax(dim=1) + 1
    full = torch.where(totals[:, -1] >= limit, ended, found.shape[1]).tolist()
    return [ids[:end] for ids, end in zip(found.tolist(), full, strict=True)]


def _read(ids: list[int], contents: list[bytes], end: int, new_ids: Collection[int], one_line: bool) -> Written:
    ids = ids[: ids.index(end)] if end in ids else ids
    content = b"".join(contents[number] for number in ids if number < len(contents))
    text = content.decode("utf-8", errors="replace")
    shown = text.partition("\n")[0].strip() if one_line else text
    return Written(shown, len(ids), len(content), sum(number in new_ids for number in ids))
