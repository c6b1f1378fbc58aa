"""Vectors of base and new tokens in one space, aligned by a bilingual dictionary (WECHSEL, arXiv 2112.06598)."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes

from nemo_adapt import hf_tokenizer
from nemo_adapt.auxiliary import fasttext
from nemo_adapt.config import Config
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

MARKS = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char)[0] == "M")
WORD = re.compile(rf"[\w{MARKS}\u200c\u200d]+|[^\w\s]")
"""Words and punctuation marks, for which vectors are trained. ``\\w`` alone lacks combining marks and joiners: it would
cut words of Hindi and Tamil at each vowel sign."""

Table = npt.NDArray[np.float32]


def make(config: Config, inputs: Inputs) -> dict[str, Table]:
    """Return ``source`` [source vocab, dims] and ``target`` [new tokens, dims], float32; zero rows for tokens without
    a vector.

    Word vectors with character n-grams are trained on ``source_text`` and ``text``. The source vectors are rotated
    onto the target's by the orthogonal matrix that fits the dictionary's pairs best (Procrustes). ``UserError`` for a
    dictionary that cannot be read or has no pair with both words in the texts.
    """
    folder = inputs["tokenizer"][0]
    contents = documents.token_contents(hf_tokenizer.load(folder))
    vocab, field = TokenMap.load(folder).source_vocab, config.data.text_field
    pairs = read_dictionary(inputs["dictionary"][0])
    words = fasttext.train("source words", inputs["source_text"], field, _words, config.auxiliary)
    source = WordVectors(words)
    words = fasttext.train("target words", inputs["text"], field, _words, config.auxiliary)
    target = WordVectors(words)
    matrix = rotation(source, target, pairs, inputs["dictionary"][0])
    rotated = source.of_tokens(contents[:vocab]) @ matrix
    return {"source": rotated.astype(np.float32), "target": target.of_tokens(contents[vocab:])}


def _words(batch: list[str]) -> Iterable[list[str]]:
    return map(WORD.findall, batch)


class WordVectors:
    """Trained word vectors, and vectors of other words and subwords, computed from n-grams."""

    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors
        self.trained = np.zeros(vectors.bucket, dtype=bool)
        for buckets in vectors.buckets_word:
            self.trained[buckets] = True

    def of_tokens(self, contents: Sequence[bytes]) -> Table:
        """Return the vector of each token's text without outer spaces: [tokens, dims], float32.

        Zeros for tokens without one, such as parts of a UTF-8 character.
        """
        found = np.zeros((len(contents), self.vectors.vector_size), dtype=np.float32)
        for row, content in enumerate(contents):
            try:
                found[row] = self.of_word(content.decode().strip())
            except UnicodeDecodeError:
                continue
        return found

    def of_word(self, word: str) -> Table:
        """Return the word's own vector, else the mean over its n-grams that were trained, else zeros: [dims]."""
        from gensim.models.fasttext import ft_ngram_hashes

        if word in self.vectors.key_to_index:
            return self.vectors[word]
        vectors = self.vectors
        buckets = ft_ngram_hashes(word, vectors.min_n, vectors.max_n, vectors.bucket) if word else []
        known = [bucket for bucket in buckets if self.trained[bucket]]
        return vectors.vectors_ngrams[known].mean(axis=0) if known else np.zeros(vectors.vector_size, np.float32)


def read_dictionary(path: Path) -> list[tuple[str, str]]:
    """Return (source word, target word) pairs: one per line, separated by a tab or spaces; blank lines are skipped.

    ``UserError`` for text that is not UTF-8, and for a line that is not two words, with its number.
    """
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"auxiliary.dictionary: {path} is not UTF-8; convert it") from None
    for number, line in enumerate(lines, start=1):
        words = line.split("\t") if "\t" in line else line.split()
        if not words:
            continue
        if len(words) != 2 or not all(word.strip() for word in words):
            raise UserError(f"auxiliary.dictionary: {path}: line {number} is not a source and a target word")
        pairs.append((words[0].strip(), words[1].strip()))
    return pairs


def rotation(
    source: WordVectors, target: WordVectors, pairs: list[tuple[str, str]], path: Path
) -> npt.NDArray[np.float64]:
    """Return the orthogonal [dims, dims] matrix W that brings source vectors @ W closest to the target vectors.

    As in the authors' program, each word is also looked up in lower case and in title case; here each pair of spellings
    counts once. ``UserError`` if no pair has vectors for both words.
    """
    known = dict.fromkeys(
        (first, second)
        for pair in pairs
        for first in _spellings(pair[0])
        for second in _spellings(pair[1])
        if first in source.vectors.key_to_index and second in target.vectors.key_to_index
    )
    if not known:
        raise UserError(
            f"auxiliary.dictionary: of the {len(pairs)} pairs in {path} none has both words in the texts "
            "(source words first, target words second)"
        )
    say(f"dictionary: {len(pairs):,} pairs, of which both texts know {len(known):,} spellings")
    left = np.array([source.vectors[first] for first, _ in known], dtype=np.float64)
    right = np.array([target.vectors[second] for _, second in known], dtype=np.float64)
    return orthogonal_procrustes(left, right)[0]


def _spellings(word: str) -> dict[str, None]:
    return dict.fromkeys((word, word.lower(), word.title()))
