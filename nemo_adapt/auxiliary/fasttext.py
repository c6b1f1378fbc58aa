"""Training of static vectors with gensim's fastText: streamed and bitwise reproducible.

This takes a hash that is the same in every process, and a single worker: with several, the order of the updates, and
so the result, varies. The price is that only one core trains.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nemo_adapt.config import AuxiliaryConfig
from nemo_adapt.console.progress import Bar
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError

LONGEST = 10_000
"""Longest sentence, in tokens, that gensim reads (its MAX_WORDS_IN_BATCH); longer ones are split."""
NEGATIVE, LEARNING_RATE, SUBSAMPLING = 10, 0.05, 1e-4
"""10 negative samples as in FOCUS and WECHSEL; the others are fastText's defaults (``-lr``, ``-t``)."""
SHORTEST_NGRAM, LONGEST_NGRAM = 3, 6
"""Characters of an n-gram, word boundary marks included: fastText's defaults (``-minn``, ``-maxn``)."""
MOST_COUNTED = 10_000_000
"""Distinct words that are counted, about 1 GiB; beyond that gensim drops the rarest."""

Splitter = Callable[[list[str]], Iterable[list[str]]]
"""Documents -> the words or tokens of each."""


def train(title: str, files: list[Path], field: str, split: Splitter, settings: AuxiliaryConfig) -> Any:
    """Train gensim's word vectors (``FastTextKeyedVectors``) on the text in ``files``, split into words by ``split``.

    CBOW, as in FOCUS and WECHSEL. The text is read ``settings.epochs`` + 1 times; memory holds the vocabulary and twice
    (words + buckets) x dims numbers. ``title`` is for the progress bar. ``UserError`` if no word occurs
    ``settings.min_count`` times.
    """
    from gensim.models.fasttext import FastText

    corpus = Corpus(title, files, field, split, settings.epochs + 1)
    model = FastText(
        vector_size=settings.dims,
        min_count=settings.min_count,
        max_vocab_size=MOST_COUNTED,
        max_final_vocab=settings.max_words,
        negative=NEGATIVE,
        alpha=LEARNING_RATE,
        sample=SUBSAMPLING,
        min_n=SHORTEST_NGRAM,
        max_n=LONGEST_NGRAM,
        bucket=settings.buckets,
        seed=settings.seed,
        workers=1,
        hashfxn=_stable_hash,
    )
    model.build_vocab(corpus)
    if not len(model.wv):
        raise UserError(
            f"{title}: nothing occurs auxiliary.min_count={settings.min_count} times in {files[0]}"
            f"{' and others' if len(files) > 1 else ''}: give more text or a smaller min_count"
        )
    model.train(corpus, total_examples=model.corpus_count, epochs=settings.epochs)
    return model.wv


class Corpus:
    """The text as an iterable of sentences (lists of words) that gensim can iterate over once per pass."""

    def __init__(self, title: str, files: list[Path], field: str, split: Splitter, passes: int) -> None:
        self.title, self.files, self.field, self.split, self.passes = title, files, field, split, passes
        self.done = 0

    def __iter__(self) -> Iterator[list[str]]:
        self.done += 1
        title = f"{self.title}, pass {self.done} of {self.passes}"
        with Bar(title, text.total_bytes(self.files) / 1e6, "MB") as bar:
            for batch in text.batches(text.documents(self.files, self.field), 1000):
                for words in self.split(batch):
                    for start in range(0, len(words), LONGEST):
                        yield words[start : start + LONGEST]
                bar.advance(sum(len(document.encode()) for document in batch) / 1e6)


def _stable_hash(word: str) -> int:
    """Return a hash that is the same in every process, unlike Python's ``hash`` of a string."""
    return zlib.crc32(word.encode())
