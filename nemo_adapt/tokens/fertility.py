"""Fertility: how many tokens a tokenizer needs for a text, as measured by the tokenizer stage and the command."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_adapt import bootstrap
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.tokens import documents

Row = dict[str, Any]
Counts = NDArray[np.int64]
"""Number of tokens of each sentence, [sentences]."""
AT_ONCE = 10_000
"""Sentences encoded per call."""
BLOCKS = 10_000
"""Most blocks of sentences that are resampled; longer texts have several sentences per block."""


def table(tokenizers: Mapping[str, Any], texts: Mapping[str, Path], reference: str, field: str = "text") -> list[Row]:
    """Return the rows of ``fertility.json``: one per tokenizer (the first is the base) and text (language -> file).

    The token count is divided by the base's for the same text (``tokens_vs_base``), by the base's for the ``reference``
    language's text (``tokens_vs_reference``), and by the tokenizer's own for that text (``disparity``). The last two
    are ``None`` without that text (``reference`` is empty where texts are no translations of each other), and where it
    has another number of sentences. ``intervals`` are 95%, from resampling the sentences of both texts together.
    ``field`` is the JSON field or Parquet column of the texts.
    """
    counts = {
        (name, language): sentence_tokens(tokenizer, path, field)
        for name, tokenizer in tokenizers.items()
        for language, path in texts.items()
    }
    base = next(iter(tokenizers))
    rows = {
        (name, language): measure(name, language, texts[language], int(tokens.sum()), field)
        for (name, language), tokens in counts.items()
    }
    for (name, language), row in rows.items():
        others = {
            "tokens_vs_base": (base, language),
            "tokens_vs_reference": (base, reference),
            "disparity": (name, reference),
        }
        tokens = counts[name, language]
        row |= {column: ratio(row, rows.get(other)) for column, other in others.items()}
        row["intervals"] = {
            "tokens_per_sentence": _interval(tokens, np.ones_like(tokens)),
            **{column: _interval(tokens, counts.get(other)) for column, other in others.items()},
        }
    return list(rows.values())


def ratio(row: Row, other: Row | None) -> float | None:
    """Return the tokens of a row over those of another text or tokenizer; ``None`` without it, and where it has another
    number of sentences: these are no translations of each other."""
    if other is None or other["sentences"] != row["sentences"]:
        return None
    return round(row["tokens"] / other["tokens"], 4)


def token_counts(tokenizer: Any, path: Path, field: str = "text") -> NDArray[np.int64]:
    """Return, by id, how often each token occurs in a text, encoded sentence by sentence without BOS and EOS."""
    counts = np.zeros(documents.vocabulary_size(tokenizer), dtype=np.int64)
    for sentences in text.batches(text.documents([path], field), AT_ONCE):
        for ids in documents.encode(tokenizer, sentences):
            np.add.at(counts, ids, 1)
    return counts


def sentence_tokens(tokenizer: Any, path: Path, field: str = "text") -> Counts:
    """Return the number of tokens of each sentence of a text, without BOS and EOS; ``UserError`` if there are none."""
    found: list[int] = []
    for sentences in text.batches(text.documents([path], field), AT_ONCE):
        found += map(len, documents.encode(tokenizer, sentences))
    if not any(found):
        raise _no_tokens(path)
    return np.array(found, dtype=np.int64)


def measure(name: str, language: str, path: Path, tokens: int, field: str = "text") -> Row:
    """Return the row of the tokenizer ``name``, which needs ``tokens`` tokens for the text ``path``.

    ``UserError`` for no tokens.
    """
    if not tokens:
        raise _no_tokens(path)
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


def _no_tokens(path: Path) -> UserError:
    return UserError(f"{path}: the tokenizer has no tokens for any of its characters; give another text or tokenizer")


def partial_tokens(tokenizer: Any) -> NDArray[np.bool_]:
    """Return, by id, whether a token alone is not valid UTF-8 (a byte piece, or a byte-level part of a character)."""
    return np.array([not _is_whole(content) for content in documents.token_contents(tokenizer)])


def share(counts: NDArray[np.int64], which: NDArray[np.bool_]) -> float:
    """Return the share of the counted tokens that ``which`` marks."""
    return round(float(counts[which].sum()) / max(1.0, float(counts.sum())), 4)


def _interval(tokens: Counts, other: Counts | None) -> list[float] | None:
    """Return the interval of a ``ratio``; ``None`` where there is none, and for a single sentence."""
    if other is None or len(other) != len(tokens):
        return None
    rows = bootstrap.in_blocks(np.stack([tokens, other], axis=1), BLOCKS)
    ends = bootstrap.interval(rows)
    return [round(end, 4) for end in ends] if ends else None


def _is_whole(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
