"""Encode very many words with a bare model, as arrays."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer

from nemo_adapt.tokenizer.learn import Segments
from nemo_adapt.tokenizer.pieces import BYTES_OF

SEPARATOR = "\uffff"
"""Separates words that are encoded together; Unicode guarantees that it is not a character."""
TOGETHER = 64
"""Words encoded as one text: one call per word takes three times as long."""
BATCH = 500
"""Such texts per call, spread over all cores."""


@dataclass(frozen=True)
class Encoded:
    """The ids of words, concatenated."""

    ids: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    """Number of ids of each word."""

    def lists(self) -> Iterator[list[int]]:
        """Yield the ids of each word."""
        ids, begin = self.ids.tolist(), 0
        for end in np.cumsum(self.lengths).tolist():
            yield ids[begin:end]
            begin = end


def bare(content: dict[str, Any]) -> Tokenizer:
    """Return the model of a ``tokenizer.json`` alone, which encodes words in the tokenizer's internal spelling."""
    dropped: dict[str, Any] = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    model = Tokenizer.from_str(json.dumps({**content, **dropped, "added_tokens": []}))
    model.add_special_tokens([AddedToken(SEPARATOR, normalized=False, special=True)])
    return model


def encode_words(model: Tokenizer, words: Sequence[str]) -> Encoded:
    """Return the ids of each word (internal spelling) under a bare model; ``ValueError`` if one has ``SEPARATOR``."""
    texts = [SEPARATOR.join(words[i : i + TOGETHER]) + SEPARATOR for i in range(0, len(words), TOGETHER)]
    parts = [np.zeros(0, np.int32)]
    for i in range(0, len(texts), BATCH):
        encodings = model.encode_batch_fast(texts[i : i + BATCH], add_special_tokens=False)
        parts += [np.array(encoding.ids, np.int32) for encoding in encodings]
    ids = np.concatenate(parts)
    ends = np.flatnonzero(ids == model.token_to_id(SEPARATOR))
    if len(ends) != len(words):
        raise ValueError("a word holds U+FFFF, which is no character")
    return Encoded(np.delete(ids, ends), np.diff(ends, prepend=-1) - 1)


def segment(model: Tokenizer, words: Sequence[str], byte_level: bool, unknown: str | None) -> Segments:
    """Return the tokens of each word; characters spelled with byte pieces, or ``unknown``, stay characters."""
    names = {i: name for name, i in model.get_vocab(with_added_tokens=False).items()}
    strings = [names.get(i, "") for i in range(max(names) + 1)]
    encoded = encode_words(model, words)
    if byte_level:
        return Segments(strings, encoded.ids, encoded.lengths)
    spelled = np.array([token in BYTES_OF or token == unknown for token in strings])[encoded.ids]
    lengths, of_word = encoded.lengths.copy(), np.repeat(np.arange(len(words)), encoded.lengths)
    changed = np.zeros(len(words), np.bool_)
    changed[of_word[spelled]] = True
    place = {string: i for i, string in enumerate(strings)}
    fresh: list[int] = []
    ends = np.cumsum(lengths)
    for word in np.flatnonzero(changed).tolist():
        ids = encoded.ids[ends[word] - encoded.lengths[word] : ends[word]]
        tokens = _with_characters([strings[i] for i in ids.tolist()], words[word], unknown)
        for token in tokens:
            if token not in place:
                place[token] = len(strings)
                strings.append(token)
        fresh += [place[token] for token in tokens]
        lengths[word] = len(tokens)
    result = np.empty(lengths.sum(), np.int32)
    where = np.repeat(changed, lengths)
    result[where] = fresh
    result[~where] = encoded.ids[~changed[of_word]]
    return Segments(strings, result, lengths)


def _with_characters(tokens: list[str], word: str, unknown: str | None) -> list[str]:
    """Replace byte pieces and unknowns with the characters of ``word`` that they encode."""
    result: list[str] = []
    at = 0
    for i, token in enumerate(tokens):
        if token in BYTES_OF:
            starts = BYTES_OF[token][0] & 0xC0 != 0x80  # not a continuation byte: a character begins
            fresh = [word[at]] if starts else []
        elif token == unknown:
            following = next((other for other in tokens[i + 1 :] if other not in BYTES_OF), None)
            end = len(word) if following is None else at + 1
            if following not in (None, unknown):  # an unknown one follows where they are not fused: one character each
                end = word.index(following, end)
            fresh = list(word[at:end])
        else:
            fresh = [token]
        result += fresh
        at += sum(map(len, fresh))
    return result
