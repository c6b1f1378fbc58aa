"""Byte-level BPE writes each byte as a printable character; the table is GPT-2's (encoder.py, bytes_to_unicode)."""


def _alphabet() -> dict[str, int]:
    """Printable Latin-1 stands for itself, the other bytes follow from U+0100 on."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}


BYTE_OF = _alphabet()
"""Character -> the byte that it stands for."""
BYTE_LEVEL_SPACE = "Ġ"
"""The space."""
