"""Bits per byte: how well a model predicts a text, comparable between models with different tokenizers.

The protocol, in enough detail to reproduce it:

- A document is one line of the text. ``t1 .. tn`` are its ids, without BOS and EOS; ``x = [start, t1, .., tn]``, where
  start is the tokenizer's BOS, or its EOS where there is no BOS (``nemo_adapt.tokens.documents``).
- Every ``ti`` is scored exactly once, with ``-ln softmax(logits of x up to t(i-1))[ti]`` nats. The end of the document
  is not scored: it encodes no byte.
- A window holds W tokens. The first one reads ``x[0:W]`` and scores ``t1 .. tW``. Window k reads
  ``x[k*(W//2) : k*(W//2) + W]``, cut at the end of the document, and scores the tokens that window k - 1 did not
  reach; each of them has at least half a window of context. Positions count from 0 in every window.
- bits per byte = (sum of nats over all documents) / ln 2 / (sum of the documents' UTF-8 bytes, without line ends).

So for one document that fits into a window, with ``model`` and ``tokenizer`` of transformers::

    ids = tokenizer(line, add_special_tokens=False)["input_ids"]
    logits = model(torch.tensor([[start, *ids[:-1]]])).logits[0]
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(ids), reduction="sum")
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from nemo_adapt import bootstrap
from nemo_adapt.console.progress import Bar
from nemo_adapt.corpora.text import documents as read_documents
from nemo_adapt.errors import UserError
from nemo_adapt.tokens import documents

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # slow to import, and training ranks, which also use this file, need none

LOGITS_PER_PASS = 1 << 28
"""Upper limit on the logits of one forward pass (1 GiB in float32): large vocabularies get smaller batches. Only a pass
of one window may exceed it."""
IGNORED = -100


@dataclass(frozen=True)
class Score:
    """The score of a text under one model: nats and UTF-8 bytes of each document."""

    nats: NDArray[np.float64]
    bytes: NDArray[np.int64]
    tokens: int
    unknown: int
    """Number of unknown tokens (text that the tokenizer cannot encode): many make bits per byte look too good."""

    @property
    def bits_per_byte(self) -> float:
        """Bits per UTF-8 byte over the whole text."""
        return bootstrap.value(self.rows, bootstrap.bits)

    @property
    def rows(self) -> NDArray[np.float64]:
        """Nats and bytes of each document, [documents, 2], for bootstrap intervals (``bootstrap.bits``)."""
        return np.stack([self.nats, self.bytes.astype(np.float64)], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return plain values from which ``from_json`` restores the score."""
        return {
            "nats": self.nats.tolist(),
            "bytes": self.bytes.tolist(),
            "tokens": self.tokens,
            "unknown": self.unknown,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Score":
        """Restore a score from the output of ``to_json``."""
        sizes = np.array(content["bytes"], dtype=np.int64)
        return cls(np.array(content["nats"]), sizes, content["tokens"], content["unknown"])


@dataclass(frozen=True)
class Window:
    """A window with the inputs ``x[begin:end]`` of a document; only its last ``scored`` predictions are scored."""

    document: int
    begin: int
    end: int
    scored: int


def read_text(path: Path, max_bytes: int = 0, field: str = "text") -> list[str]:
    """Return the first documents of a held-out text, uncut, up to ``max_bytes`` UTF-8 bytes in total (0: all).

    The first document is always included. Raises ``UserError`` for an empty file or one that is not UTF-8.
    """
    taken: list[str] = []
    size = 0
    for document in read_documents([path], field):
        size += len(document.encode("utf-8"))
        if taken and 0 < max_bytes < size:
            break
        taken.append(document)
    return taken


@torch.inference_mode()
def score(
    model: "PreTrainedModel",
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    window: int,
    batch: int,
    title: str = "bits per byte",
) -> Score:
    """Score ``texts`` (documents) by the module's protocol, with windows of ``window`` tokens, ``batch`` per pass.

    The model's vocabulary must include all of the tokenizer's ids (``models.inspect`` checks this). ``title`` labels
    the progress bar. Raises ``UserError`` when the model predicts what is not a finite number.
    """
    sequences = scored_sequences(tokenizer, texts)
    nats = np.zeros(len(texts))
    tokens = sum(len(ids) - 1 for ids in sequences)
    with Bar(title, tokens, "tokens") as bar:
        for group in batches(sequences, window, batch, model.config.get_text_config().vocab_size):
            for item, value in zip(group, _window_nats(model, sequences, group), strict=True):
                nats[item.document] += value
            if not np.isfinite(nats).all():
                raise UserError(
                    f"{title}: the model's predictions are not finite: a weight is damaged, or not a number; download "
                    "the model, or train and export it, again"
                )
            bar.advance(sum(item.scored for item in group))
    sizes = np.array([len(text.encode("utf-8")) for text in texts], dtype=np.int64)
    unknown = sum(
        int((ids[1:] == tokenizer.unk_token_id).sum()) for ids in sequences if tokenizer.unk_token_id is not None
    )
    return Score(nats, sizes, tokens, unknown)


def scored_sequences(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return ``x`` of each document: the start token and the document's ids (the module's protocol)."""
    start = documents.start_id(tokenizer)
    return [np.array([start, *ids], dtype=np.int64) for ids in documents.encode(tokenizer, texts)]


def windows(document: int, tokens: int, window: int) -> list[Window]:
    """Return the windows in which a document of ``tokens`` tokens is scored (the module's protocol)."""
    found, begin, done = [], 0, 0
    while done < tokens:
        end = min(begin + window, tokens)
        found.append(Window(document, begin, end, end - done))
        begin, done = begin + max(1, window // 2), end
    return found


def batches(
    sequences: Sequence[NDArray[np.int64]], window: int, batch: int, vocabulary: int, passes: int = 1
) -> Iterator[list[Window]]:
    """Yield all windows in batches of similar length, the longest first.

    A batch has as many windows as fit into ``batch * window`` tokens and ``LOGITS_PER_PASS``, at least one; or
    ``passes`` times as many, for a model that scores it in that many passes. None is shorter than half of the longest.
    """
    todo = [item for number, ids in enumerate(sequences) for item in windows(number, len(ids) - 1, window)]
    lengths = sorted((item.end - item.begin for item in todo), reverse=True)
    todo.sort(key=lambda item: item.begin - item.end)
    at = 0
    while at < len(todo):
        rows = passes * max(1, min(batch * window, LOGITS_PER_PASS // vocabulary) // lengths[at])
        similar = sum(2 * length >= lengths[at] for length in lengths[at : at + rows])
        yield todo[at : at + similar]
        at += similar


def padded(
    sequences: Sequence[NDArray[np.int64]], group: Sequence[Window], multiple: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input ids and targets of the windows in ``group``, each [windows, tokens], padded on the right.

    Targets that are not scored are ``IGNORED``. The number of tokens is padded to a multiple of ``multiple``.
    """
    length = -(-max(item.end - item.begin for item in group) // multiple) * multiple
    inputs = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.full((len(group), length), IGNORED)
    for row, item in enumerate(group):
        ids, size = torch.from_numpy(sequences[item.document]), item.end - item.begin
        inputs[row, :size] = ids[item.begin : item.end]
        targets[row, size - item.scored : size] = ids[item.end - item.scored + 1 : item.end + 1]
    return inputs, targets


def _window_nats(
    model: "PreTrainedModel", sequences: Sequence[NDArray[np.int64]], group: Sequence[Window]
) -> list[float]:
    """Return the nats of each window's scored tokens, from one forward pass (causal, so right padding is harmless)."""
    inputs, targets = padded(sequences, group)
    mask = torch.zeros_like(inputs)
    for row, item in enumerate(group):
        mask[row, : item.end - item.begin] = 1
    device = model.device
    logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device), use_cache=False).logits
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten().to(device), ignore_index=IGNORED, reduction="none"
    )
    return losses.view(*targets.shape).double().sum(dim=1).tolist()
