"""Find the pieces of a block of text: compiled functions over raw UTF-8.

A block is a sequence of UTF-8 documents, each followed by ``END``. Pieces are found in *plain* documents, whose only
white space is single spaces between visible characters; other documents are handed back. A piece is the text between
two spaces; one that begins a document and one that follows a space are different pieces. Pieces are identified by
64-bit hashes: with ten million pieces, one corpus in 400,000 has a collision.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from nemo_adapt.corpora.text_files import END as MARK
from nemo_adapt.machine.compiled import compiled, mix64
from nemo_adapt.tokenizer.tally import STRETCH, weight

END = MARK[0]
SPACE = 0x20
HASH, COUNT, WEIGHT, PLACE = range(4)
"""Columns of a piece: its hash (0: a free slot), its count, its weight for learning (``tally``), and ``PLACE``: the
offset of its text (in ``Counts.text`` or a block) shifted left by ``BEGIN``, its length in bytes shifted by one, and
whether it followed a space."""
BEGIN = 24
LONGEST = 1 << (BEGIN - 1)
"""Pieces of this many bytes or more are left out; all texts together may have half a terabyte."""
ROOM = 2 * STRETCH
"""Slots for the pieces of a stretch; at most a quarter are used, since a piece and its space take two bytes or more."""
PLAIN, MAY, MUST, BETWEEN, LAST = range(5)
"""Kinds of bytes: plain; perhaps not plain (the bytes after it decide); never plain; space; end of a document."""
BASIS, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""Constants of the hash FNV-1a."""
LATER_BASIS = np.uint64(0xCBF29CE584222325)
"""Basis for pieces that followed a space: one bit differs, outside the byte that the first byte of the text changes."""
ODD_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000▁"
"""White space other than the space and U+2000 to U+200A, and SentencePiece's sign for a space."""


def odd_bytes(also: Collection[str] = ()) -> npt.NDArray[np.uint8]:
    """Return the kind of each byte, [256]; documents that contain a text of ``also`` are not plain either."""
    odd = np.zeros(256, np.uint8)
    for space in ODD_SPACES:
        raw = space.encode()
        odd[raw[0]] = max(odd[raw[0]], MUST if len(raw) == 1 else MAY)
    for text in also:
        visible = text.replace(" ", "").encode()
        # The last byte that is not alphanumeric, if any: fewer documents then seem to contain the text.
        rare = [byte for byte in visible if not chr(byte).isalnum()]
        if visible:  # texts of several spaces need no mark: spaces in a row are never plain
            odd[rare[-1] if rare else visible[0]] = MUST
    odd[SPACE], odd[END] = MUST if " " in also else BETWEEN, LAST
    return odd


def find(block: bytes, odd: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], list[bytes]]:
    """Find the pieces of a block's plain documents, [pieces, 4], and the other documents. The block ends with ``END``.

    A piece has one row per stretch that contains it: ``STRETCH`` bytes of the block, from a multiple of ``STRETCH`` on.
    ``odd`` is made by :func:`odd_bytes`.
    """
    found = np.empty((len(block) // 2 + 1, 4), np.int64)
    others = np.empty((len(block) // 2 + 1, 2), np.int64)
    pieces, rest = _find(np.frombuffer(block, np.uint8), odd, found, others)
    kept = _join_repeats(found[:pieces], np.full(ROOM, -1, np.int32))
    return found[:kept], [block[begin:end] for begin, end in others[:rest].tolist()]


@compiled
def _find(data: Any, odd: Any, found: Any, others: Any) -> tuple[int, int]:
    """Write the pieces of plain documents into ``found`` and the bounds of the others into ``others``; return how many.

    Hashes are computed here and looked up together afterwards, so that memory latencies overlap.
    """
    begin = start = pieces = before = rest = 0  # before: pieces of the documents before this one
    later, plain, after_space = 0, True, True
    value = BASIS
    for at in range(len(data)):
        byte = data[at]
        kind = odd[byte]
        if kind == PLAIN:
            value = (value ^ np.uint64(byte)) * PRIME
            after_space = False
            continue
        if kind in (MAY, MUST):
            plain = plain and kind == MAY and not _odd_space(data, at)
            value = (value ^ np.uint64(byte)) * PRIME
            after_space = False
            continue
        if at > begin:
            plain = plain and not after_space
            if 0 < at - start < LONGEST:
                found[pieces, HASH] = _mixed(value)
                found[pieces, PLACE] = start << BEGIN | (at - start) << 1 | later
                pieces += 1
        elif kind == BETWEEN:
            plain = False  # it begins with a space
        start, later, value, after_space = at + 1, 1, LATER_BASIS, True
        if kind == LAST:
            if not plain:
                others[rest, 0], others[rest, 1] = begin, at
                rest, pieces = rest + 1, before
            begin, before, later, value, plain = at + 1, pieces, 0, BASIS, True
    return pieces, rest


@compiled
def _odd_space(data: Any, at: int) -> bool:
    """Return whether a multi-byte space of ``ODD_SPACES``, or U+2000 to U+200A, begins here; text is valid UTF-8."""
    first, second = data[at], data[at + 1]
    if first == 0xC2:
        return second == 0x85 or second == 0xA0
    third = data[at + 2]
    if first == 0xE1:
        return second == 0x9A and third == 0x80
    if first == 0xE2:
        if second == 0x80:
            return third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF
        return (second == 0x81 and third == 0x9F) or (second == 0x96 and third == 0x81)
    return first == 0xE3 and second == 0x80 and third == 0x80


@compiled
def _hash(data: Any, begin: int, end: int, later: int) -> Any:
    """Return the 64-bit hash of a piece: FNV-1a, mixed; never 0."""
    value = LATER_BASIS if later else BASIS
    for at in range(begin, end):
        value = (value ^ np.uint64(data[at])) * PRIME
    return _mixed(value)


@compiled
def _mixed(value: Any) -> Any:
    """Return mixed bits; never 0."""
    return np.int64(mix64(value)) or 1


@compiled
def hash_all(found: Any, data: Any) -> None:
    """Set the hashes of pieces whose texts are in ``data``."""
    for row in found:
        begin = row[PLACE] >> BEGIN
        row[HASH] = _hash(data, begin, begin + (row[PLACE] >> 1 & (LONGEST - 1)), row[PLACE] & 1)


@compiled
def _join_repeats(found: Any, seen: Any) -> int:
    """Reduce to one row per piece and stretch, in place; return how many rows are left.

    ``seen`` is a hash table of ``ROOM`` slots with row numbers; those of rows of earlier stretches count as free.
    """
    kept = first = 0
    stretch = -1
    for i in range(len(found)):
        value, place = found[i, HASH], found[i, PLACE]
        if (place >> BEGIN) // STRETCH != stretch:
            stretch, first = (place >> BEGIN) // STRETCH, kept
        slot = value & (len(seen) - 1)
        while seen[slot] >= first and found[seen[slot], HASH] != value:
            slot = (slot + 1) & (len(seen) - 1)
        if seen[slot] < first:
            seen[slot] = kept
            found[kept, HASH], found[kept, COUNT], found[kept, PLACE] = value, 1, place
            kept += 1
        else:
            found[seen[slot], COUNT] += 1
    for i in range(kept):
        found[i, WEIGHT] = weight(found[i, COUNT])
    return kept
