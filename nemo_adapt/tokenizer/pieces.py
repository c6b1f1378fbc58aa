"""Token spellings: inner spelling to real text, and which spellings make good tokens."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from nemo_adapt.byte_level import BYTE_OF
from nemo_adapt.hf_tokenizer import SPACE

MAX_CHARACTERS = 32
"""Longest new token, in characters."""
BYTES_OF = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
"""SentencePiece's byte pieces."""
BYTE_LITERAL = re.compile(r"<0x[0-9A-Fa-f]{0,2}>?")
ONE_SCRIPT = {"CJK": "HAN", "HIRAGANA": "HAN", "KATAKANA": "HAN", "KATAKANA-HIRAGANA": "HAN"}
"""Scripts that SentencePiece keeps together."""


def token_bytes(token: str, byte_level: bool) -> bytes:
    """The UTF-8 bytes that a token stands for (a part of a character's bytes, for some byte-level tokens)."""
    if byte_level:
        return bytes(BYTE_OF[character] for character in token)
    return token.replace(SPACE, " ").encode()


def is_whole(token: str, byte_level: bool) -> bool:
    """Whether a token stands for whole characters."""
    try:
        token_bytes(token, byte_level).decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Rules:
    """What a new token may look like; ``split_*`` repeat the SentencePiece trainer's settings of the base."""

    byte_level: bool
    split_scripts: bool = False
    split_numbers: bool = False
    split_digits: bool = False

    def allow(self, token: str) -> bool:
        """Whether ``token`` (inner spelling) may be learned."""
        raw = token_bytes(token, self.byte_level)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return _inside_one_character(raw)
        body = text[1:] if text.startswith(" ") else text
        if not body or len(text) > MAX_CHARACTERS or BYTE_LITERAL.search(text):
            return False
        if not self.byte_level and " " in body:
            return False
        if any(kind_of(character) == "control" for character in body):
            return False
        return self._same_kind(body)

    def _same_kind(self, body: str) -> bool:
        kinds = {kind_of(character) for character in body}
        if self.split_digits and "number" in kinds and len(body) > 1:
            return False
        if self.split_numbers and "number" in kinds and len(kinds) > 1:
            return False
        # Punctuation may join letters, other than in SentencePiece's trainer: without "ır." and "'nın" ten thousand
        # Turkish tokens shorten FLORES to 1.02 times the English, with them to 0.96.
        return not self.split_scripts or len(kinds - {"inherited", "number", "common"}) <= 1


@cache
def kind_of(character: str) -> str:
    """The script of a letter, or ``number``, ``control``, ``inherited`` (joins any script) or ``common``."""
    category = unicodedata.category(character)
    name = unicodedata.name(character, "")
    if category in ("Cc", "Co", "Cs", "Cn", "Zl", "Zp") or character == "\ufeff":
        return "control"
    if category[0] == "N":
        return "number"
    if category == "Cf" or name.startswith("COMBINING"):
        return "inherited"
    if category[0] in "LM" and name:
        script = name.split()[0]
        return ONE_SCRIPT.get(script, script)
    return "common"


def _inside_one_character(raw: bytes) -> bool:
    """Whether bytes (after an optional space) are part of a single character's: a step towards a whole one."""
    body = raw[1:] if raw.startswith(b" ") else raw
    return bool(body) and all(byte & 0xC0 == 0x80 for byte in body[1:]) and body[0] >= 0x80
