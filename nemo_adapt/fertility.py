"""Fertility: how many tokens a tokenizer needs for a text. The one measure, for the tokenizer stage and the command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt import text
from nemo_adapt.documents import token_contents

Row = dict[str, Any]
AT_ONCE = 10_000
"""Sentences encoded in one call."""


def table(tokenizers: Mapping[str, Any], texts: Mapping[str, Path], reference: str, field: str = "text") -> list[Row]:
    """One row per tokenizer (the first is the base) and text (language -> file of sentences): ``fertility.json``.

    ``tokens_vs_reference`` is over the base's tokens for the text of the ``reference`` language, and ``None`` where
    there is no such text. ``field`` is the JSON field or Parquet column of the texts.
    """
    rows = [
        measure(name, language, path, token_counts(tokenizer, path, field), field)
        for name, tokenizer in tokenizers.items()
        for language, path in texts.items()
    ]
    yardstick = next((row["tokens"] for row in rows if row["language"] == reference), None)
    for row in rows:
        row["tokens_vs_reference"] = round(row["tokens"] / yardstick, 4) if yardstick else None
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


def measure(name: str, language: str, path: Path, counts: NDArray[np.int64], field: str = "text") -> Row:
    """The row of one tokenizer, called ``name``, whose tokens in the text ``path`` were counted by id."""
    sentences = words = size = 0
    for sentence in text.documents([path], field):
        sentences += 1
        words += len(sentence.split())
        size += len(sentence.encode())
    tokens = int(counts.sum())
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
    return round(float(counts[which].sum() / max(1, counts.sum())), 4)


def _is_whole(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
