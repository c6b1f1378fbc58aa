"""Overlaps of new and base tokens: which base tokens cover the same bytes as a new token, counted in target text."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.console.progress import Bar, say
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

BATCH = 1000
"""Documents per tokenizer call."""
PENDING = 4_000_000
"""Overlaps that are buffered before they are summed: limits memory to some hundred MiB besides the result."""

Integers = npt.NDArray[np.int64]


def make(config: Config, inputs: Inputs) -> dict[str, Integers]:
    """Count the pairs of a new and a base token that overlap: an occurrence of each covers the same byte of the text.

    Return int64 arrays with one entry per pair, sorted by ``new`` (index of the new token, from 0) and ``piece`` (base
    id): ``count`` is the number of overlaps, ``bytes`` the bytes shared in all of them. Documents for which the
    tokenizers give different numbers of bytes (the base has unknown tokens there) are skipped, and the number of these
    is printed. ``UserError`` if that is all of them.
    """
    folder = inputs["tokenizer"][0]
    base, target = hf_tokenizer.load(inputs["base"][0]), hf_tokenizer.load(folder)
    base_sizes, target_sizes = (documents.token_bytes(each).astype(np.int64) for each in (base, target))
    token_map = TokenMap.load(folder)
    sums, waiting, held = np.empty((3, 0), dtype=np.int64), [], 0
    unlike = total = 0
    files = inputs["text"]
    with Bar("overlaps of base and new tokens", text.total_bytes(files) / 1e6, "MB") as bar:
        for batch in text.batches(text.documents(files, config.data.text_field), BATCH):
            pairs = list(zip(_tokenized(base, base_sizes, batch), _tokenized(target, target_sizes, batch), strict=True))
            same = [pair for pair in pairs if pair[0][1].sum() == pair[1][1].sum()]
            total, unlike = total + len(pairs), unlike + len(pairs) - len(same)
            found = between(*_concatenated(same, 0), *_concatenated(same, 1), token_map.source_vocab)
            waiting.append(found)
            held += found.shape[1]
            if held > PENDING:
                sums, waiting, held = _summed([sums, *waiting]), [], 0
            bar.advance(sum(len(document.encode()) for document in batch) / 1e6)
    if unlike == total:
        raise UserError(
            "no document has the same bytes in the base and the extended tokenizer: they do not belong together"
        )
    if unlike:
        say(f"left out {unlike:,} of {total:,} documents that the base cannot write without unknown tokens")
    key, counts, shared_bytes = _summed([sums, *waiting])
    new, piece = key // token_map.source_vocab, key % token_map.source_vocab
    return {"new": new, "piece": piece, "count": counts, "bytes": shared_bytes}


Tokens = tuple[Integers, Integers]
"""A document's token ids, and the number of bytes of each."""


def between(base: Integers, base_sizes: Integers, target: Integers, target_sizes: Integers, vocab: int) -> Integers:
    """Return the overlaps with new tokens in a text tokenized both ways: [3, overlaps] of key, 1 and shared bytes.

    The key is ``index of the new token * vocab + base id``, with ``vocab`` the size of the base vocabulary. Every span
    between neighbouring token boundaries, of either tokenizer, lies in one token of each, and is one overlap.
    """
    base_ends, target_ends = np.cumsum(base_sizes), np.cumsum(target_sizes)
    ends = np.union1d(base_ends, target_ends)
    starts = np.concatenate([[0], ends[:-1]])
    starts, ends = starts[starts < ends], ends[starts < ends]  # no span for empty tokens at the beginning
    under = base[np.searchsorted(base_ends, starts, side="right")]
    over = target[np.searchsorted(target_ends, starts, side="right")]
    new = over >= vocab
    return np.stack([(over[new] - vocab) * vocab + under[new], np.ones(new.sum(), np.int64), (ends - starts)[new]])


def _tokenized(tokenizer: Any, sizes: Integers, batch: list[str]) -> Iterator[Tokens]:
    for ids in documents.encode(tokenizer, batch):
        row = np.array(ids, dtype=np.int64)
        yield row, sizes[row]


def _concatenated(pairs: list[tuple[Tokens, Tokens]], side: int) -> Tokens:
    """Concatenate the documents of one side (0: base, 1: target)."""
    empty = np.empty(0, dtype=np.int64)
    ids = [pair[side][0] for pair in pairs] or [empty]
    sizes = [pair[side][1] for pair in pairs] or [empty]
    return np.concatenate(ids), np.concatenate(sizes)


def _summed(parts: list[Integers]) -> Integers:
    """Sum the overlaps of each pair over ``parts`` (as ``between`` returns them), sorted by key: [3, pairs]."""
    joined = np.concatenate(parts, axis=1)
    keys, places = np.unique(joined[0], return_inverse=True)
    sums = np.zeros((len(keys), 2), dtype=np.int64)
    np.add.at(sums, places, joined[1:].T)
    return np.concatenate([keys[None], sums.T])
