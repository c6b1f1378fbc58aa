"""Training static vectors with gensim's fastText: streamed, and the same bits every time.

gensim's own hash and one worker make it repeatable: with more workers the order of updates, and so the result, is left
to chance. It costs the speed of the other cores.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from nemo_adapt import text
from nemo_adapt.config import AuxiliaryConfig
from nemo_adapt.errors import UserError
from nemo_adapt.progress import Bar

LONGEST = 10_000
"""Tokens of one sentence that gensim looks at (its MAX_WORDS_IN_BATCH); longer ones are cut."""
NEGATIVE, LEARNING_RATE, SUBSAMPLING = 10, 0.05, 1e-4
"""10 negative samples as FOCUS and WECHSEL train; the others are fastText's defaults (``-lr``, ``-t``)."""
SHORTEST_NGRAM, LONGEST_NGRAM = 3, 6
"""Characters of n-grams: fastText's defaults (``-minn``, ``-maxn``), the marks of a word's ends included."""
MOST_COUNTED = 10_000_000
"""Different words that are counted at once; gensim then forgets the rarest. About a GiB."""

Cut = Callable[[list[str]], Iterable[list[str]]]
"""Documents -> their words or tokens."""


def train(title: str, files: list[Path], field: str, cut: Cut, settings: AuxiliaryConfig) -> Any:
    """gensim's word vectors (``FastTextKeyedVectors``) of the text in ``files``, as ``cut`` cuts it into words.

    CBOW, as in FOCUS and WECHSEL. The text is read ``settings.epochs`` + 1 times; memory holds the vocabulary and
    (words + buckets) x dims numbers, twice. ``UserError`` where no word occurs ``settings.min_count`` times.
    """
    from gensim.models.fasttext import FastText

    corpus = Corpus(title, files, field, cut, settings.epochs + 1)
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
    """The text as gensim wants it: sentences, as often as it asks."""

    def __init__(self, title: str, files: list[Path], field: str, cut: Cut, passes: int) -> None:
        self.title, self.files, self.field, self.cut, self.passes = title, files, field, cut, passes
        self.done = 0

    def __iter__(self) -> Iterator[list[str]]:
        self.done += 1
        title = f"{self.title}, pass {self.done} of {self.passes}"
        with Bar(title, text.total_bytes(self.files) / 1e6, "MB") as bar:
            for batch in text.batches(text.documents(self.files, self.field), 1000):
                for words in self.cut(batch):
                    for start in range(0, len(words), LONGEST):
                        yield words[start : start + LONGEST]
                bar.advance(sum(len(document.encode()) for document in batch) / 1e6)


def _stable_hash(word: str) -> int:
    """Python's own ``hash`` of a string differs from process to process."""
    return zlib.crc32(word.encode())
