"""Spellings of tokens: their real text, and which ones are allowed for new tokens."""

import itertools
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from nemo_adapt.hf_tokenizer.byte_level import BYTE_LEVEL_SPACE, BYTE_OF, SPACE

MAX_CHARACTERS = 32
"""Longest new token, in characters."""
BYTES_OF = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
"""SentencePiece's byte pieces -> the byte of each."""
BYTE_LITERAL = re.compile(r"<0x[0-9A-Fa-f]{0,2}>?")
MOST = {"number": 3, "vowel mark": 1}
"""Most characters of a kind in a new token: digits as the regexes of Llama-3 and similar tokenizers group them; vowel
marks of Arabic and Hebrew because most text omits them, so that fully marked words would fill the vocabulary (with the
limit, ten thousand Arabic tokens from partly marked text give 4% fewer tokens on the UDHR)."""
MAX_RUN = 3
"""Longest run of punctuation and symbols in a new token."""
SCRIPTLESS = {"inherited", "number", "vowel mark", "common"}
"""Kinds of characters that combine with any script."""
ONE_SCRIPT = dict.fromkeys(("CJK", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA", "KATAKANA-HIRAGANA"), "HAN")
"""Scripts that SentencePiece treats as one."""
NO_SCRIPT = {
    "MODIFIER": "inherited",
    "VARIATION": "inherited",
    "FEMININE": "common",
    "MASCULINE": "common",
    "MICRO": "common",
}
"""First words of the names of letters and marks that any script may have, as of U+02BB in Uzbek, ª, º and µ."""
VOWEL_MARKED = ("ARABIC", "HEBREW", "SYRIAC")
"""Scripts whose marks are optional vowels."""
BROKEN = "\ufffd"
"""What Python decodes part of a character to."""
FATHATAN = "\u064b"
"""The Arabic mark that is written before its letter: with the alef after it, it is an ending of its own."""


def token_bytes(token: str, byte_level: bool) -> bytes:
    """Return the UTF-8 bytes that a token encodes (part of a character's bytes, for some byte-level tokens)."""
    if byte_level:
        return bytes(BYTE_OF[character] for character in token)
    return token.replace(SPACE, " ").encode()


def is_whole(token: str, byte_level: bool) -> bool:
    """Return whether a token encodes whole characters."""
    try:
        token_bytes(token, byte_level).decode()
    except UnicodeDecodeError:
        return False
    return True


def cut_cluster(token: str, byte_level: bool) -> str:
    """Return the script in which a token cuts a letter from its marks (marks first, letters after them), or ``""``.

    Letters with their marks are what readers of Indic scripts call letters (arXiv 2409.11501 learns only from those).
    Marks alone, or followed by signs, may end a word, so they do not count; ``FATHATAN`` may come first. A mark
    followed by part of a character (Llama-3 has such Tamil tokens) counts: it leads to a mark with a letter.
    """
    begin = token.startswith(BYTE_LEVEL_SPACE if byte_level else SPACE)
    first = token[begin : begin + 1]
    if first.isascii() or not (byte_level or _category(first) == "M"):
        return ""  # nearly all
    body = token_bytes(token, byte_level).decode(errors="replace").removeprefix(" ")
    if not body or body[0] == FATHATAN or _category(body[0]) != "M":
        return ""
    if body.endswith(BROKEN):
        return _script(body[0])
    return next((_script(character) for character in body if _category(character) == "L"), "")


@dataclass(frozen=True)
class Rules:
    """What a new token may look like.

    ``split_scripts`` is the setting of the base's SentencePiece trainer. Its settings on digits and numbers are not
    used: held-out Turkish takes 2% fewer tokens without them. Length limits exclude years, prices, page numbers and
    drawn lines instead.
    """

    byte_level: bool
    split_scripts: bool = False

    def allow(self, token: str) -> bool:
        """Return whether ``token`` (internal spelling) may be learned."""
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
        kinds = [kind_of(character) for character in body]
        if "control" in kinds or any(kinds.count(kind) > most for kind, most in MOST.items()):
            return False
        if any(kind == "common" and sum(1 for _ in run) > MAX_RUN for kind, run in itertools.groupby(kinds)):
            return False
        # Unlike in SentencePiece's trainer, punctuation may be merged with letters: without "ır." and "'nın", ten
        # thousand Turkish tokens bring FLORES to 1.02 times the tokens of the English, with them to 0.96.
        return not self.split_scripts or len(set(kinds) - SCRIPTLESS) <= 1


def _script(character: str) -> str:
    """Return the script of a letter or mark: the first word of its Unicode name, after ``ONE_SCRIPT``."""
    script = unicodedata.name(character, "").partition(" ")[0]
    return ONE_SCRIPT.get(script, script)


def _category(character: str) -> str:
    """The first letter of the general category: L for letters, M for combining marks."""
    return unicodedata.category(character)[0]


@cache
def kind_of(character: str) -> str:
    """Return the script of a letter, or ``control``, or one of ``SCRIPTLESS``."""
    category = unicodedata.category(character)
    name = unicodedata.name(character, "")
    if category in ("Cc", "Co", "Cs", "Cn", "Zl", "Zp") or character == "\ufeff":
        return "control"
    if category[0] == "N":
        return "number"
    if category == "Mn" and name.startswith(VOWEL_MARKED):
        return "vowel mark"
    if category == "Cf" or name.startswith("COMBINING"):
        return "inherited"
    if category[0] in "LM" and name:
        script = _script(character)
        return NO_SCRIPT.get(script, script)
    return "common"


def _inside_one_character(raw: bytes) -> bool:
    """Return whether bytes (after an optional space) are part of one character: a step to merging all of it."""
    body = raw[1:] if raw.startswith(b" ") else raw
    return bool(body) and all(byte & 0xC0 == 0x80 for byte in body[1:]) and body[0] >= 0x80
