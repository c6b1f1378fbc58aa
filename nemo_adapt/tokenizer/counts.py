"""Distinct pieces of text and how often each occurs: a table in arrays, filled from raw UTF-8 by compiled functions.

A block is documents as UTF-8, with ``END`` behind each. What is counted in it are *plain* documents, whose only white
space is single spaces between visible characters; the others are handed back. A piece stands between two spaces; one
that begins a document and one that follows a space are different pieces. Pieces are told apart by 64-bit hashes: among
ten million, two are the same by chance in one corpus of 400,000.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nemo_adapt.compiled import compiled, prefetch

END = 0xFF
"""A byte that no UTF-8 text holds."""
SPACE = 0x20
HASH, COUNT, PLACE = range(3)
"""Columns of a piece. ``PLACE`` is where its text begins (in ``Counts.text`` or a block), shifted left by ``BEGIN``,
its length in bytes, shifted by one, and whether it followed a space. A hash of 0 marks a free slot."""
BEGIN = 24
LONGEST = 1 << (BEGIN - 1)
"""Longer pieces, in bytes, are left out; the sum of all texts may be half a terabyte."""
SMALL = 1 << 16
AHEAD = 12
"""A piece's slot is fetched so many pieces before it is looked at, so that waits for memory overlap."""
PLAIN, MAY, MUST, BETWEEN, LAST = range(5)
"""Kinds of bytes: of plain documents; of such that may not be (other bytes decide), or are not; space and end."""
BASIS, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""Of the hash FNV-1a."""
LATER_BASIS = np.uint64(0xCBF29CE584222325)
"""For pieces that followed a space: another bit is set, not in the byte that the first byte of the text meets."""
ODD_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000▁"
"""White space other than the space, but for U+2000 to U+200A; and SentencePiece's own sign for it."""


@dataclass
class Counts:
    """An open-addressing table of pieces, never more than half full."""

    size: int = 0
    """Pieces."""
    length: int = 0
    """Bytes of ``text`` in use."""
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2 * SMALL, 2), np.int64))
    """Hash and count in one row: what is looked at for every word of the text."""
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * SMALL, np.int64))
    text: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(SMALL, np.uint8))

    def count(self, block: bytes, odd: npt.NDArray[np.uint8]) -> list[bytes]:
        """Count the plain documents of a block, which ends with ``END``; returns the others.

        ``odd`` is made by :func:`odd_bytes`.
        """
        found = np.empty((len(block) // 2 + 1, 3), np.int64)
        others = np.empty((len(block) // 2 + 1, 2), np.int64)
        data = np.frombuffer(block, np.uint8)
        pieces, rest = _find(data, odd, found, others)
        self._take(found[:pieces], data, len(block))
        return [block[begin:end] for begin, end in others[:rest].tolist()]

    def add(self, pieces: Mapping[str, int], later: bool) -> None:
        """Count pieces given as text: those of a document's beginning, or ``later`` ones."""
        raw = [piece.encode() for piece in pieces]
        lengths = np.array([len(piece) for piece in raw], np.int64)
        found = np.empty((len(raw), 3), np.int64)
        found[:, COUNT] = list(pieces.values())
        found[:, PLACE] = (np.cumsum(lengths) - lengths) << BEGIN | lengths << 1 | later
        data = np.frombuffer(b"".join(raw), np.uint8)
        _hash_all(found, data)
        self._take(found[lengths < LONGEST], data, len(data))

    def pieces(self, least: int = 1) -> "Pieces":
        """All pieces that occurred ``least`` times, in no order."""
        rows = np.empty((self.size, 3), np.int64)
        return Pieces(rows[: _pick(self.slots, self.places, least, rows)])

    def _frequency(self, rank: int) -> int:
        """How often the piece of this rank occurred."""
        return int(np.partition(self.slots[:, COUNT], -rank)[-rank])

    def total(self) -> int:
        """How many pieces were counted."""
        return int(self.slots[:, COUNT].sum())

    def merge(self, pieces: "Pieces", text: bytes) -> None:
        """Add the ``pieces`` of another table, with its ``text``."""
        self._take(pieces.rows, np.frombuffer(text, np.uint8), len(text))

    def most_frequent(self, most: int) -> "Pieces":
        """The ``most`` most frequent pieces, first the most frequent; of equals the smaller hash."""
        rows = self.pieces(self._frequency(most) if self.size > most else 1).rows
        return Pieces(rows[np.lexsort((rows[:, HASH], -rows[:, COUNT]))[:most]])

    def pruned(self, most: int) -> "Counts":
        """This table, or of more than ``most`` pieces one without the rarest: half of ``most`` are left, or fewer."""
        if self.size <= most:
            return self
        kept = Counts()
        kept.merge(self.pieces(self._frequency(most // 2) + 1), self.text[: self.length].tobytes())
        return kept

    def texts(self, pieces: "Pieces") -> list[str]:
        """Pieces of this table as text."""
        raw, begins, lengths = self.text[: self.length].tobytes(), pieces.begins.tolist(), pieces.lengths.tolist()
        return [raw[begin : begin + length].decode() for begin, length in zip(begins, lengths, strict=True)]

    def _take(self, found: npt.NDArray[np.int64], source: npt.NDArray[np.uint8], length: int) -> None:
        """Enter pieces whose places are in ``source``; their texts have ``length`` bytes at most."""
        if 2 * (self.size + len(found)) > len(self.slots):
            slots, places = self.slots, self.places
            room = 1 << (2 * (self.size + len(found))).bit_length()
            self.slots, self.places = np.zeros((room, 2), np.int64), np.zeros(room, np.int64)
            _move(slots, places, self.slots, self.places)
        if self.length + length > len(self.text):
            longer = np.zeros(2 * (self.length + length), np.uint8)
            longer[: self.length] = self.text[: self.length]
            self.text = longer
        self.size, self.length = _enter(found, source, self.slots, self.places, self.text, self.size, self.length)


@dataclass(frozen=True)
class Pieces:
    """Some pieces: [pieces, 3] with the columns ``HASH``, ``COUNT`` and ``PLACE``."""

    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each occurred."""
        return self.rows[:, COUNT]

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """Where the text of each begins."""
        return self.rows[:, PLACE] >> BEGIN

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of each."""
        return self.rows[:, PLACE] >> 1 & (LONGEST - 1)

    @property
    def later(self) -> npt.NDArray[np.int64]:
        """1 for those that followed a space."""
        return self.rows[:, PLACE] & 1


def odd_bytes(also: Iterable[str] = ()) -> npt.NDArray[np.uint8]:
    """By byte, what it says of the document that holds it; documents with a text of ``also`` are not plain either."""
    odd = np.zeros(256, np.uint8)
    for space in ODD_SPACES:
        raw = space.encode()
        odd[raw[0]] = max(odd[raw[0]], MUST if len(raw) == 1 else MAY)
    for text in also:
        visible = text.replace(" ", "").encode()
        # The last byte that is no letter, if any: fewer documents then look as if they held the text.
        rare = [byte for byte in visible if not chr(byte).isalnum()]
        if visible:  # several spaces in a row are odd by themselves
            odd[rare[-1] if rare else visible[0]] = MUST
    odd[SPACE], odd[END] = BETWEEN, LAST
    return odd


@compiled
def _find(data: Any, odd: Any, found: Any, others: Any) -> tuple[int, int]:
    """The pieces of a block's plain documents, and where the others lie; returns how many of each.

    Hashes are made here, and looked up all together afterwards, so that waits for memory overlap.
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
                found[pieces, HASH], found[pieces, COUNT] = _scattered(value), 1
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
    """Whether one of ``ODD_SPACES`` of several bytes, or U+2000 to U+200A, begins here; text is valid UTF-8."""
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
    """64 bits of a piece: FNV-1a, scattered; never 0."""
    value = LATER_BASIS if later else BASIS
    for at in range(begin, end):
        value = (value ^ np.uint64(data[at])) * PRIME
    return _scattered(value)


@compiled
def _scattered(value: Any) -> Any:
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(value ^ (value >> np.uint64(31))) or 1


@compiled
def _hash_all(found: Any, data: Any) -> None:
    for row in found:
        begin = row[PLACE] >> BEGIN
        row[HASH] = _hash(data, begin, begin + (row[PLACE] >> 1 & (LONGEST - 1)), row[PLACE] & 1)


@compiled
def _enter(found: Any, source: Any, slots: Any, places: Any, text: Any, size: int, length: int) -> tuple[int, int]:
    """Enter pieces into the table, which has room; returns its new size and length."""
    for i in range(len(found)):
        if i + AHEAD < len(found):
            prefetch(slots, found[i + AHEAD, HASH] & (len(slots) - 1))
        value = found[i, HASH]
        slot = value & (len(slots) - 1)
        while slots[slot, HASH] and slots[slot, HASH] != value:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot, COUNT] += found[i, COUNT]
        if slots[slot, HASH] == 0:
            slots[slot, HASH] = value
            begin, bytes_ = found[i, PLACE] >> BEGIN, found[i, PLACE] >> 1 & (LONGEST - 1)
            text[length : length + bytes_] = source[begin : begin + bytes_]
            places[slot] = length << BEGIN | found[i, PLACE] & (2 * LONGEST - 1)
            size, length = size + 1, length + bytes_
    return size, length


@compiled
def _pick(slots: Any, places: Any, least: int, rows: Any) -> int:
    """The pieces with a count of ``least`` or more; returns how many."""
    found = 0
    for slot in range(len(slots)):
        if slots[slot, HASH] and slots[slot, COUNT] >= least:
            rows[found, HASH], rows[found, COUNT], rows[found, PLACE] = (
                slots[slot, HASH],
                slots[slot, COUNT],
                places[slot],
            )
            found += 1
    return found


@compiled
def _move(slots: Any, places: Any, to_slots: Any, to_places: Any) -> None:
    """Put all pieces into a larger, empty table."""
    for old in range(len(slots)):
        if slots[old, HASH]:
            slot = slots[old, HASH] & (len(to_slots) - 1)
            while to_slots[slot, HASH]:
                slot = (slot + 1) & (len(to_slots) - 1)
            to_slots[slot, HASH], to_slots[slot, COUNT] = slots[old, HASH], slots[old, COUNT]
            to_places[slot] = places[old]
