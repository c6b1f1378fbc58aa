"""Learn new tokens on top of a base: byte-pair encoding by the rule of SentencePiece.

Plain BPE counts pairs of neighbours and merges the pair that it chose. SentencePiece, when it encodes, merges any two
neighbours whose *joined* piece is in the vocabulary, best piece first. Learning here uses the same rule: candidates are
joined strings, counted over all pairs that form them, and after each choice the words that contain it are encoded again
with the vocabulary so far. What is learned is therefore what will be encoded.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nemo_adapt.tokenizer import merge_state

LONGEST = 500
"""Most tokens of a word that are learned from together. A choice encodes each word that contains it again, once per
occurrence, so a line without spaces (a word of a million tokens) would take days; splitting it loses the pairs at the
cuts."""


@dataclass(frozen=True)
class Segments:
    """Words as tokens, concatenated; ``tokens`` are indices into ``strings``."""

    strings: Sequence[str]
    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    """Number of tokens of each word."""

    def words(self) -> Iterator[list[str]]:
        """Yield the tokens of each word as strings."""
        begin = 0
        for end in np.cumsum(self.lengths).tolist():
            yield [self.strings[token] for token in self.tokens[begin:end].tolist()]
            begin = end

    @classmethod
    def of(cls, words: Iterable[Sequence[str]]) -> "Segments":
        """Build from the tokens of each word."""
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
    """Choose up to ``wanted`` new tokens, most useful first; return each with the weight saved then, ``least`` or more.

    ``words`` are segmented under the current vocabulary; each token saved in a word counts the word's weight, and a
    word of more than ``LONGEST`` tokens counts as several. ``merging`` are the pieces, best first, that are merged
    wherever their parts are adjacent. ``missing`` maps characters in ``words`` that are not tokens yet to the number of
    tokens that spell each; one becomes a token, or part of one, only once chosen. ``allow`` tells whether a string may
    be chosen. Deterministic; a smaller ``wanted`` gives a prefix of the result.
    """
    strings = list(dict.fromkeys([*words.strings, *merging, *missing]))
    number = {string: i for i, string in enumerate(strings, start=1)}
    codes = np.frombuffer("".join(strings).encode("utf-32-le"), np.uint32)
    ends = np.cumsum(np.array([len(string) for string in strings], np.int64))
    places = np.array([number[string] for string in words.strings], np.int32)
    lengths, parts = _cut(words.lengths)
    state = merge_state.new_state(codes, ends, places[words.tokens], lengths, least)
    state.weights[:] = np.repeat(weights, parts)
    for rank, piece in enumerate(merging, start=1):
        state.strings[number[piece], merge_state.RANK] = rank
    state.used[merge_state.RANKS] = len(merging)
    for character, spelled in missing.items():
        state.strings[number[character], merge_state.SPELLED] = spelled
    merge_state.fill(state)
    chosen: dict[str, int] = {}
    best = merge_state.best(state)
    while len(chosen) < wanted and best:
        string = _spelled(state, strings, best)
        if allow(string):
            chosen[string] = int(state.strings[best, merge_state.COUNT])
            best = merge_state.choose(*state, best)
            progress(1)
        else:
            state.strings[best, merge_state.RANK] = merge_state.FORBIDDEN
            best = merge_state.best(state)
    return chosen


def _cut(lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the lengths of words in parts of at most ``LONGEST`` tokens, and the number of parts of each word."""
    parts = np.maximum(1, -(-lengths // LONGEST))
    cut = np.full(parts.sum(), LONGEST)
    cut[np.cumsum(parts) - 1] = lengths - (parts - 1) * LONGEST
    return cut, parts


def _spelled(state: merge_state.State, strings: Sequence[str], number: int) -> str:
    """Return the string of a number, assembled from its parts."""
    if number <= len(strings):
        return strings[number - 1]
    left, right = state.strings[number, merge_state.PART : merge_state.OTHER_PART + 1].tolist()
    return _spelled(state, strings, left) + _spelled(state, strings, right)
