"""What the numbers look like: held-out sentences, cut into tokens, and their beginnings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from nemo_adapt import documents

SENTENCE_CHARACTERS = (60, 140)
"""A sample is as close as possible to the text's median length, within these bounds."""
LONE_SPACE = "␣"
"""Stands for a first token that is only the space which the tokenizer itself put there."""
PROMPT_WORDS = 8


@dataclass(frozen=True)
class Piece:
    """One token of a sentence as a reader sees it."""

    text: str
    """Its text, or where it is only a part of a character its bytes in hexadecimal (``E0 A4``)."""
    is_bytes: bool
    is_new: bool
    """The tokenizer has it and the first model's has not."""


def choose(texts: Sequence[str], count: int) -> list[str]:
    """``count`` different documents of medium length, always the same ones for the same text."""
    low, high = SENTENCE_CHARACTERS
    wanted = min(max(float(np.median([len(text) for text in texts])), low), high)
    return sorted(dict.fromkeys(texts), key=lambda text: abs(len(text) - wanted))[:count]


def pieces(tokenizer: PreTrainedTokenizerFast, text: str, new_ids: Collection[int]) -> list[Piece]:
    """The tokens of ``text`` in order; the space that the tokenizer itself puts in front is left out."""
    ids = documents.encode(tokenizer, [text])[0]
    contents = documents.token_contents(tokenizer)
    shown = [contents[number] for number in ids]
    if shown and documents.added_bytes(tokenizer):
        shown[0] = shown[0].removeprefix(b" ") or LONE_SPACE.encode()
    names = tokenizer.convert_ids_to_tokens(ids)
    return [_piece(content, name, number in new_ids) for content, name, number in zip(shown, names, ids, strict=True)]


def prompt(sentence: str) -> str:
    """The first words of a sentence: half of them, at most ``PROMPT_WORDS``."""
    words = sentence.split()
    return " ".join(words[: min(PROMPT_WORDS, max(1, len(words) // 2))])


def _piece(content: bytes, name: str, is_new: bool) -> Piece:
    try:
        return Piece(content.decode("utf-8") or name, False, is_new)
    except UnicodeDecodeError:
        return Piece(content.hex(" ").upper(), True, is_new)
