"""Fertility: how many tokens a tokenizer needs for a text. The one measure, for the tokenizer stage and the command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt import bootstrap, text
from nemo_adapt.documents import token_contents

Row = dict[str, Any]
Counts = NDArray[np.int64]
"""[sentences]: tokens of each."""
AT_ONCE = 10_000
"""Sentences encoded in one call."""
BLOCKS = 10_000
"""Of sentences, drawn together for the intervals of longer texts."""


def table(tokenizers: Mapping[str, Any], texts: Mapping[str, Path], reference: str, field: str = "text") -> list[Row]:
    """One row per tokenizer (the first is the base) and text (language -> file of sentences): ``fertility.json``.

    ``tokens_vs_base`` is over the base's tokens for the same text, ``tokens_vs_reference`` over the base's for the text
    of the ``reference`` language, ``disparity`` over the tokenizer's own for that. They are ``None`` where there is no
    such text, and ``disparity`` where it has other sentences. ``intervals``: 95%, over the sentences of both texts
    together. ``field`` is the JSON field or Parquet column of the texts.
    """
    counts = {
        (name, language): sentence_tokens(tokenizer, path, field)
        for name, tokenizer in tokenizers.items()
        for language, path in texts.items()
    }
    base = next(iter(tokenizers))
    rows = []
    for (name, language), tokens in counts.items():
        first, yardstick, own = (counts.get(key) for key in ((base, language), (base, reference), (name, reference)))
        row = measure(name, language, texts[language], int(tokens.sum()), field)
        row["tokens_vs_base"] = _share(tokens, first)
        row["tokens_vs_reference"] = _share(tokens, yardstick)
        row["disparity"] = _share(tokens, own) if _aligned(tokens, own) else None
        row["intervals"] = {
            "tokens_per_sentence": _interval(tokens, np.ones_like(tokens)),
            "tokens_vs_base": _interval(tokens, first),
            "tokens_vs_reference": _interval(tokens, yardstick),
            "disparity": _interval(tokens, own),
        }
        rows.append(row)
    return rows


def token_counts(tokenizer: Any, path: Path, field: str = "text") -> NDArray[np.int64]:
    """By id: how often each token occurs in a text, sentence by sentence, without BOS and EOS."""
    backend = tokenizer.backend_tokenizer
    size = max(tokenizer.get_vocab().values()) + 1
    counts = np.zeros(size, dtype=np.int64)
    for sentences in text.batches(text.documents([path], field), AT_ONCE):
        for encoding in backend.encode_batch_fast(sentences, add_special_tokens=False):
            np.add.at(counts, encoding.ids, 1)
    return counts


def sentence_tokens(tokenizer: Any, path: Path, field: str = "text") -> Counts:
    """Tokens of each sentence of a text, without BOS and EOS."""
    backend = tokenizer.backend_tokenizer
    found: list[int] = []
    for sentences in text.batches(text.documents([path], field), AT_ONCE):
        found += map(len, backend.encode_batch_fast(sentences, add_special_tokens=False))
    return np.array(found, dtype=np.int64)


def measure(name: str, language: str, path: Path, tokens: int, field: str = "text") -> Row:
    """The row of one tokenizer, called ``name``, that needs so many ``tokens`` for the text ``path``."""
    sentences = words = size = 0
    for sentence in text.documents([path], field):
        sentences += 1
        words += len(sentence.split())
        size += len(sentence.encode())
    return {
        "tokenizer": name,
        "text": path.name,
        "language": language,
        "sentences": sentences,
        "words": words,
        "bytes": size,
        "tokens": tokens,
        "tokens_per_word": round(tokens / words, 4),
        "bytes_per_token": round(size / tokens, 4),
    }


def partial_tokens(tokenizer: Any) -> NDArray[np.bool_]:
    """By id: whether a token's bytes are no whole characters (a byte piece, or a byte-level token that cuts one)."""
    return np.array([not _is_whole(content) for content in token_contents(tokenizer)])


def share(counts: NDArray[np.int64], which: NDArray[np.bool_]) -> float:
    """Which share of the counted tokens are those that ``which`` marks."""
    return round(float(counts[which].sum()) / max(1.0, float(counts.sum())), 4)


def _aligned(tokens: Counts, other: Counts | None) -> bool:
    """Whether the sentences of two texts can be those of one another."""
    return other is not None and len(tokens) == len(other)


def _share(tokens: Counts, other: Counts | None) -> float | None:
    return None if other is None else round(float(tokens.sum() / other.sum()), 4)


def _interval(tokens: Counts, other: Counts | None) -> list[float] | None:
    """Of the ratio of two sums over the same sentences; those of long texts are drawn in blocks."""
    if other is None or len(other) != len(tokens):
        return None
    rows = bootstrap.in_blocks(np.stack([tokens, other], axis=1), BLOCKS)
    return [round(end, 4) for end in bootstrap.interval(rows)]


def _is_whole(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
