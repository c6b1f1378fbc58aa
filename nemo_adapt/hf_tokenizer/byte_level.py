"""The characters that tokenizers write for bytes and spaces; the table is GPT-2's (encoder.py, bytes_to_unicode)."""

import re


def _alphabet() -> dict[str, int]:
    """Return character -> byte: printable Latin-1 bytes keep their character, the others get those from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


BYTE_OF = _alphabet()
"""Byte-level BPE's character -> the byte that it represents."""
BYTE_LEVEL_SPACE = "Ġ"
"""The character of the space byte."""
SPACE = "▁"
"""SentencePiece's character for a space; in a text it counts as one more space."""
SINGLE_SPACE = re.compile(rf"(?<=[^\s{SPACE}]) (?=[^\s{SPACE}])")
"""A single space between visible characters: texts are split into words here."""
