"""Examples for the report: held-out sentences split into tokens, and their beginnings as prompts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from nemo_adapt.tokens import documents

SENTENCE_CHARACTERS = (60, 140)
"""Samples are as close as possible to the text's median length, clamped to these bounds."""
LONE_SPACE = "␣"
"""Shown for a first token that is only the space that the tokenizer itself prepended."""
PROMPT_WORDS = 8
LONGEST_WORD = 30
"""A longer run of characters without a space is no word: the language has no spaces between words, as Thai."""
PROMPT_CHARACTERS = 40
"""Longest prompt in such a language."""


@dataclass(frozen=True)
class Piece:
    """One token of a sentence as the report shows it."""

    text: str
    """Its text, or its bytes in hexadecimal (``E0 A4``) if it is not valid UTF-8 by itself."""
    is_bytes: bool
    is_new: bool
    """Whether the first model's tokenizer does not have it."""


def choose(texts: Sequence[str], count: int) -> list[str]:
    """Return ``count`` different documents of medium length, always the same ones for the same text."""
    low, high = SENTENCE_CHARACTERS
    wanted = min(max(float(np.median([len(text) for text in texts])), low), high)
    return sorted(dict.fromkeys(texts), key=lambda text: abs(len(text) - wanted))[:count]


def pieces(tokenizer: PreTrainedTokenizerFast, text: str, new_ids: Collection[int]) -> list[Piece]:
    """Return the tokens of ``text`` in order, without the space that the tokenizer itself prepends."""
    ids = documents.encode(tokenizer, [text])[0]
    contents = documents.token_contents(tokenizer)
    shown = [contents[number] for number in ids]
    if shown and documents.added_bytes(tokenizer):
        shown[0] = shown[0].removeprefix(b" ") or LONE_SPACE.encode()
    names = tokenizer.convert_ids_to_tokens(ids)
    return [_piece(content, name, number in new_ids) for content, name, number in zip(shown, names, ids, strict=True)]


def prompt(sentence: str) -> str:
    """Return the first half of a sentence's words, at most ``PROMPT_WORDS``; of its characters if it has no words."""
    words = sentence.split()
    first = words[: min(PROMPT_WORDS, max(1, len(words) // 2))]
    if max(map(len, first)) > LONGEST_WORD:
        return sentence[: min(PROMPT_CHARACTERS, len(sentence) // 2)].strip()
    return " ".join(first)


def _piece(content: bytes, name: str, is_new: bool) -> Piece:
    try:
        return Piece(content.decode("utf-8") or name, False, is_new)
    except UnicodeDecodeError:
        return Piece(content.hex(" ").upper(), True, is_new)
