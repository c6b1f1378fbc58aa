"""Learning new tokens on top of a base: byte-pair encoding by the rule of SentencePiece.

Plain BPE counts pairs of neighbours and joins the pair it chose. SentencePiece, when it encodes, joins any two
neighbours whose *joined* piece is in the vocabulary, best piece first. Here the same rule is used to learn: candidates
are joined strings, counted over all pairs that make them, and after each choice the words that hold it are brought to
the state in which an encoder with the vocabulary so far would leave them. So what is learned is what will be encoded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nemo_adapt.tokenizer import joins

LONGEST = 500
"""Tokens of a word that are learned from together. A choice goes through all of each word that holds it, once for each
place, so a line without spaces (a word of a million tokens) would take days; cut, it loses the pairs at the cuts."""


@dataclass(frozen=True)
class Segments:
    """Words in tokens: each word's tokens behind those of the word before, as places in ``strings``."""

    strings: Sequence[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    """Tokens of each word."""

    def words(self) -> Iterator[list[str]]:
        """The tokens word by word."""
        begin = 0
        for end in np.cumsum(self.lengths).tolist():
            yield [self.strings[token] for token in self.tokens[begin:end].tolist()]
            begin = end

    @classmethod
    def of(cls, words: Iterable[Sequence[str]]) -> "Segments":
        """The words whose tokens are given."""
        words = list(words)
        strings = sorted({token for word in words for token in word})
        place = {string: i for i, string in enumerate(strings)}
        tokens = [place[token] for word in words for token in word]
        return cls(strings, np.array(tokens, np.int32), np.array([len(word) for word in words], np.int64))


def learn(
    words: Segments,
    weights: npt.ArrayLike,
    merging: Sequence[str],
    missing: Mapping[str, int],
    wanted: int,
    allow: Callable[[str], bool],
    least: int,
    progress: Callable[[int], None] = lambda amount: None,
) -> dict[str, int]:
    """Choose up to ``wanted`` new tokens, the most useful first; each with what it saved then, ``least`` or more.

    ``words`` are segmented under the vocabulary so far; a token that one needs less saves its weight, and one of more
    than ``LONGEST`` tokens counts as several words. ``merging`` are the pieces, best first, that are joined whenever
    their parts meet. ``missing`` are characters that stand in ``words`` but are no tokens yet, with the number of
    tokens that spell each now; one becomes a token, or takes part in one, only once chosen. ``allow`` says of a joined
    string whether it may be chosen. Deterministic; what is learned first does not depend on ``wanted``.
    """
    strings = list(dict.fromkeys([*words.strings, *merging, *missing]))
    number = {string: i for i, string in enumerate(strings, start=1)}
    codes = np.frombuffer("".join(strings).encode("utf-32-le"), np.uint32)
    ends = np.cumsum(np.array([len(string) for string in strings], np.int64))
    places = np.array([number[string] for string in words.strings], np.int32)
    lengths, parts = _cut(words.lengths)
    state = joins.new_state(codes, ends, places[words.tokens], lengths, least)
    state.weights[:] = np.repeat(weights, parts)
    for rank, piece in enumerate(merging, start=1):
        state.strings[number[piece], joins.RANK] = rank
    state.used[joins.RANKS] = len(merging)
    for character, spelled in missing.items():
        state.strings[number[character], joins.SPELLED] = spelled
    joins.fill(state)
    chosen: dict[str, int] = {}
    best = joins.best(state)
    while len(chosen) < wanted and best:
        string = _spelled(state, strings, best)
        if allow(string):
            chosen[string] = int(state.strings[best, joins.COUNT])
            best = joins.choose(*state, best)
            progress(1)
        else:
            state.strings[best, joins.RANK] = joins.FORBIDDEN
            best = joins.best(state)
    return chosen


def _cut(lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lengths of words that are ``LONGEST`` at most, and of how many of them each word is made."""
    parts = np.maximum(1, -(-lengths // LONGEST))
    cut = np.full(parts.sum(), LONGEST)
    cut[np.cumsum(parts) - 1] = lengths - (parts - 1) * LONGEST
    return cut, parts


def _spelled(state: joins.State, strings: Sequence[str], number: int) -> str:
    """The string of a number, put together from its parts."""
    if number <= len(strings):
        return strings[number - 1]
    left, right = state.strings[number, joins.PART : joins.OTHER_PART + 1].tolist()
    return _spelled(state, strings, left) + _spelled(state, strings, right)
