"""Tokenization of documents with a cache of words; each worker process of the ``data`` stage runs this.

The result is the same as without the cache, on every machine. Imports are light because every worker imports this
module when it starts.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from nemo_adapt.hf_tokenizer.byte_level import SINGLE_SPACE, SPACE

SPECIAL_KEY = re.compile(rf"[\s{SPACE}]")
"""Matches in the cache key of a word that starts a text or contains whitespace itself."""
GUARD = "a"
"""Put before a word when it is encoded, so that it is tokenized as inside a text, not as at its start."""
WORDS_PER_CALL = 64
"""Words that are encoded as one text: one call per word takes three times as long."""
LONGEST_CACHED = 64
"""Characters of the longest cached word. Longer ones (URLs, text without spaces) rarely occur twice."""
CACHE_SIZE = 1_000_000
"""Words in the cache, some 200 MB. A full cache is cleared; frequent words soon return."""
PIECE_CHARACTERS = 1 << 20
"""Characters of a document that are split into words at a time, so that memory does not grow with the document."""


@dataclass(frozen=True)
class Rule:
    """How documents are tokenized; picklable, to be sent to worker processes."""

    tokenizer: str
    """The content of ``tokenizer.json``."""
    typecode: str
    """Typecode of ``array`` for the dtype of token ids."""
    prefix: tuple[int, ...]
    """Ids before each document: BOS, or none."""
    end: int
    """Id after each document, EOS."""
    space: str
    """The space symbol that words begin with; empty: texts are not split into words (``word_boundaries.space_of``)."""
    space_first: bool = False
    """Whether the tokenizer puts a space before a text's first word, which is then like any other word."""
    added_tokens: tuple[str, ...] = ()
    """Added tokens that match anywhere in a text; a document that contains one is not split into words."""


class Encoder:
    """Encodes documents by a rule, and caches the ids of words."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.tokenizer = Tokenizer.from_str(rule.tokenizer)
        self.tokenizer.encode_special_tokens = True  # text that spells a special token stays text
        self.tokenizer.no_truncation()  # a tokenizer.json may ask for both
        self.tokenizer.no_padding()
        self.prefix, self.end = self._raw(list(rule.prefix)), self._raw([rule.end])
        self.whole = re.compile("|".join(map(re.escape, rule.added_tokens)) or r"(?!)")
        self.guard = len(self.tokenizer.encode(GUARD, add_special_tokens=False).ids)
        # By id: whether the token begins with the space symbol. In a word only the first token does.
        self.begins = np.array([bool(name) and name[0] == rule.space for name in _names(self.tokenizer)])
        self.width = array(rule.typecode).itemsize
        self.cache: dict[str, bytes] = {}
        """The cache: word -> its ids as bytes. A first word to which the tokenizer adds no space has a space before
        its key."""

    def encode(self, texts: Sequence[str]) -> list[bytes]:
        """Return ``[BOS] ids EOS`` of each document as bytes; ``OverflowError`` for ids that the dtype cannot hold."""
        if not self.rule.space:
            return [self.prefix + self._raw(ids) + self.end for ids in self._whole(texts)]
        words, ends = [], []
        for text in texts:
            if len(text) > PIECE_CHARACTERS or self.whole.search(text):
                ends.append(-1)
                continue
            words += self._words(text)
            ends.append(len(words))
        values = self._ids_of(words)
        answer, begin = [], 0
        for text, end in zip(texts, ends, strict=True):
            if end < 0:
                answer.append(self._alone(text))
            else:
                answer.append(b"".join((self.prefix, *values[begin:end], self.end)))
                begin = end
        return answer

    def _alone(self, text: str) -> bytes:
        """Encode one document that contains an added token (without splitting it), or is long (piece by piece)."""
        if self.whole.search(text):
            return self.prefix + self._raw(self._whole([text])[0]) + self.end
        parts = (b"".join(self._ids_of(self._words(piece, first=not at))) for at, piece in _pieces(text))
        return b"".join((self.prefix, *parts, self.end))

    def _words(self, text: str, first: bool = True) -> list[str]:
        """Split a text into the keys of its words in ``cache``, none of them empty.

        ``first``: the text begins a document.
        """
        words = text.split()
        if not words or SPACE in text or " ".join(words) != text:
            words = SINGLE_SPACE.split(text)  # whitespace other than a single space stays in an adjacent word
        if first and not (self.rule.space_first and words[0] and not SPECIAL_KEY.search(words[0])):
            words[0] = " " + words[0]
        return words

    def _ids_of(self, words: list[str]) -> list[bytes]:
        """Return the ids of words, given by their keys in ``cache``."""
        values = list(map(self.cache.get, words))
        missing = [index for index, value in enumerate(values) if value is None]
        if missing:
            fresh = self._encode_new(list(dict.fromkeys(words[index] for index in missing)))
            for index in missing:
                values[index] = fresh[words[index]]
        return values  # type: ignore[return-value]

    def _encode_new(self, words: list[str]) -> dict[str, bytes]:
        """Encode words that are not cached, and cache those of up to ``LONGEST_CACHED`` characters."""
        odd = set(filter(SPECIAL_KEY.search, words))
        simple = [word for word in words if word not in odd] if odd else words
        found: dict[str, bytes] = {}
        groups = [simple[at : at + WORDS_PER_CALL] for at in range(0, len(simple), WORDS_PER_CALL)]
        for group, ids in zip(groups, self._whole([" ".join((GUARD, *group)) for group in groups]), strict=True):
            raw, begins = self._raw(ids[self.guard :]), self.begins[ids[self.guard :]].nonzero()[0] * self.width
            found.update(zip(group, map(raw.__getitem__, map(slice, begins, [*begins[1:], len(raw)])), strict=True))
        texts = [word[1:] if word[0] == " " else f"{GUARD} {word}" for word in odd]
        for word, ids in zip(odd, self._whole(texts), strict=True):
            found[word] = self._raw(ids if word[0] == " " else ids[self.guard :])
        if len(self.cache) + len(found) > CACHE_SIZE:
            self.cache.clear()
        self.cache.update((word, ids) for word, ids in found.items() if len(word) <= LONGEST_CACHED)
        return found

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _raw(self, ids: list[int]) -> bytes:
        return array(self.rule.typecode, ids).tobytes()  # raises OverflowError, where numpy would wrap around


def _names(tokenizer: Tokenizer) -> list[str]:
    """Return the model's tokens by id, added tokens excluded; an empty string where an id has none."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    names = [""] * (max(vocabulary.values()) + 1)
    for name, number in vocabulary.items():
        names[number] = name
    return names


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Split a long text between words into pieces of about ``PIECE_CHARACTERS`` characters; yield (offset, piece)."""
    begin = 0
    while begin < len(text):
        cut = SINGLE_SPACE.search(text, begin + PIECE_CHARACTERS) if begin + PIECE_CHARACTERS < len(text) else None
        end = cut.start() if cut else len(text)
        yield begin, text[begin:end]
        begin = end + 1
