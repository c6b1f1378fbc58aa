"""Text to ids, fast and the same on every machine: what each process of the ``data`` stage does with its documents.

Only light imports: the processes start with this module.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

MARK = "▁"
"""SentencePiece's own sign for a space: in a text it is one more space."""
CUT = re.compile(rf"(?<=[^\s{MARK}]) (?=[^\s{MARK}])")
"""A single space between visible characters."""
ODD = re.compile(rf"[\s{MARK}]")
"""In the name of a word: it is a text's first one, or holds spaces of its own."""
GUARD = "a"
"""A word before the one that is encoded, so that this one is spelled as it is inside a text."""
TOGETHER = 64
"""Words that are encoded in one text: a call for each costs three times as much."""
LONGEST = 64
"""Longer words (addresses, text without spaces) are rare each: they are encoded anew every time."""
MOST = 1_000_000
"""Words that are remembered at once, some 200 MB; then the memory starts anew, and has the frequent ones soon."""
AT_ONCE = 1 << 20
"""Characters of a document that are cut into words at once: memory does not grow with the document."""


@dataclass(frozen=True)
class Rule:
    """How documents become ids; small and plain, to be handed to another process."""

    tokenizer: str
    """The ``tokenizer.json``."""
    typecode: str
    """``array``'s letter for the width of a token."""
    prefix: tuple[int, ...]
    end: int
    space: str
    """The sign for a space that words begin with; empty where texts are encoded whole (``words.space_of``)."""
    space_first: bool = False
    """Whether a text's first word gets a space too, and so is a word like the others."""
    found_before: tuple[str, ...] = ()
    """Texts that are tokens wherever they stand; a document with one is encoded whole."""


class Encoder:
    """Encodes documents by a rule, and remembers words."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.tokenizer = Tokenizer.from_str(rule.tokenizer)
        self.tokenizer.encode_special_tokens = True  # text that spells a special token stays text
        self.tokenizer.no_truncation()  # a tokenizer.json may ask for both
        self.tokenizer.no_padding()
        self.prefix, self.end = self._raw(list(rule.prefix)), self._raw([rule.end])
        self.whole = re.compile("|".join(map(re.escape, rule.found_before)) or r"(?!)")
        self.guard = len(self.tokenizer.encode(GUARD, add_special_tokens=False).ids)
        # The one token of a word that begins with the sign for a space is its first.
        self.begins = np.array([bool(name) and name[0] == rule.space for name in _names(self.tokenizer)])
        self.width = array(rule.typecode).itemsize
        self.known: dict[str, bytes] = {}
        """Word -> its ids; the first word of a text, if no space is before it, has one before its name here."""

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """For each document ``[BOS] ids EOS`` in the tokens' width. ``OverflowError`` where an id does not fit it."""
        if not self.rule.space:
            return [self.prefix + self._raw(ids) + self.end for ids in self._whole(texts)]
        words, ends = [], []
        for text in texts:
            if len(text) > AT_ONCE or self.whole.search(text):
                ends.append(-1)
                continue
            words += self._words(text)
            ends.append(len(words))
        values = self._look_up(words)
        answer, begin = [], 0
        for text, end in zip(texts, ends, strict=True):
            if end < 0:
                answer.append(self._alone(text))
            else:
                answer.append(b"".join((self.prefix, *values[begin:end], self.end)))
                begin = end
        return answer

    def _alone(self, text: str) -> bytes:
        """A document that is encoded whole, or piece after piece because it is long."""
        if self.whole.search(text):
            return self.prefix + self._raw(self._whole([text])[0]) + self.end
        parts = (b"".join(self._look_up(self._words(piece, first=not at))) for at, piece in _pieces(text))
        return b"".join((self.prefix, *parts, self.end))

    def _words(self, text: str, first: bool = True) -> list[str]:
        """The words of a text, named as in ``known``; none is empty."""
        words = text.split()
        if not words or MARK in text or " ".join(words) != text:
            words = CUT.split(text)  # other spaces than single ones stay in the word before or behind
        if first and not (self.rule.space_first and words[0] and not ODD.search(words[0])):
            words[0] = " " + words[0]
        return words

    def _look_up(self, words: list[str]) -> list[bytes]:
        """The ids of words (named as in ``known``)."""
        values = list(map(self.known.get, words))
        missing = [place for place, value in enumerate(values) if value is None]
        if missing:
            fresh = self._learn(list(dict.fromkeys(words[place] for place in missing)))
            for place in missing:
                values[place] = fresh[words[place]]
        return values  # type: ignore[return-value]

    def _learn(self, words: list[str]) -> dict[str, bytes]:
        """Encode words that are not known, and remember them."""
        odd = set(filter(ODD.search, words))
        simple = [word for word in words if word not in odd] if odd else words
        found: dict[str, bytes] = {}
        groups = [simple[at : at + TOGETHER] for at in range(0, len(simple), TOGETHER)]
        for group, ids in zip(groups, self._whole([" ".join((GUARD, *group)) for group in groups]), strict=True):
            raw, begins = self._raw(ids[self.guard :]), self.begins[ids[self.guard :]].nonzero()[0] * self.width
            found.update(zip(group, map(raw.__getitem__, map(slice, begins, [*begins[1:], len(raw)])), strict=True))
        texts = [word[1:] if word[0] == " " else f"{GUARD} {word}" for word in odd]
        for word, ids in zip(odd, self._whole(texts), strict=True):
            found[word] = self._raw(ids if word[0] == " " else ids[self.guard :])
        if len(self.known) + len(found) > MOST:
            self.known.clear()
        self.known.update((word, ids) for word, ids in found.items() if len(word) <= LONGEST)
        return found

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _raw(self, ids: list[int]) -> bytes:
        return array(self.rule.typecode, ids).tobytes()  # it refuses an id that does not fit; numpy's casts wrap


def _names(tokenizer: Tokenizer) -> list[str]:
    """The model's tokens by id; empty where an id has none."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    names = [""] * (max(vocabulary.values()) + 1)
    for name, number in vocabulary.items():
        names[number] = name
    return names


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """A long text cut between words, each piece with its place."""
    begin = 0
    while begin < len(text):
        cut = CUT.search(text, begin + AT_ONCE) if begin + AT_ONCE < len(text) else None
        end = cut.start() if cut else len(text)
        yield begin, text[begin:end]
        begin = end + 1
