"""Fertility: how many tokens a tokenizer needs for a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt import text

Row = dict[str, Any]


def table(tokenizers: Mapping[str, Any], texts: Mapping[str, Path], reference: str) -> list[Row]:
    """One row per tokenizer (the first is the base) and text (language -> file of sentences).

    Tokens are counted without BOS and EOS. ``tokens_vs_reference`` is over the base's tokens for the text of the
    ``reference`` language, and ``None`` where there is no such text.
    """
    rows = [
        _row(name, tokenizer, language, path)
        for name, tokenizer in tokenizers.items()
        for language, path in texts.items()
    ]
    yardstick = next((row["tokens"] for row in rows if row["language"] == reference), None)
    for row in rows:
        row["tokens_vs_reference"] = round(row["tokens"] / yardstick, 4) if yardstick else None
    return rows


def _row(name: str, tokenizer: Any, language: str, path: Path) -> Row:
    sentences = list(text.documents([path]))
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
    words = sum(len(sentence.split()) for sentence in sentences)
    size = sum(len(sentence.encode()) for sentence in sentences)
    tokens = sum(len(encoding.ids) for encoding in encoded)
    return {
        "tokenizer": name,
        "text": path.name,
        "language": language,
        "sentences": len(sentences),
        "words": words,
        "bytes": size,
        "tokens": tokens,
        "tokens_per_word": round(tokens / words, 4),
        "bytes_per_token": round(size / tokens, 4),
    }
