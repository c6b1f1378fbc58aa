"""Hash table of distinct pieces of text in arrays: how often each occurs, and its weight for learning."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nemo_adapt.machine.compiled import compiled, prefetch
from nemo_adapt.tokenizer.scan import BEGIN, COUNT, HASH, LONGEST, PLACE, WEIGHT, find, hash_all
from nemo_adapt.tokenizer.tally import weight

SMALL, LARGE, SMALL_GROWTH = 1 << 16, 1 << 20, 8
"""Initial capacity in pieces, and the slots from which on a table doubles; below, it grows eightfold, because
allocating memory takes longer than filling it."""
FULLEST = 3 / 4
"""Largest share of the slots in use."""
LINE = 64
"""Bytes of a cache line: two slots."""
LAST_HASH = np.iinfo(np.int64).max
"""Largest hash of a piece."""
AHEAD = 12
"""How many pieces ahead a slot is prefetched, so that memory latencies overlap."""


@dataclass
class Counts:
    """An open-addressing hash table of pieces."""

    size: int = 0
    """Number of pieces."""
    length: int = 0
    """Bytes of ``text`` in use."""
    slots: npt.NDArray[np.int64] = field(default_factory=lambda: _free_slots(2 * SMALL))
    text: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(SMALL, np.uint8))
    spare_rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 4), np.int64))
    spare_text: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    """The last two are memory that ``prune`` copies into."""

    def count(self, block: bytes, odd: npt.NDArray[np.uint8]) -> list[bytes]:
        """Count the plain documents of a block; return the other documents (``scan.find``)."""
        found, others = find(block, odd)
        self._take(found, np.frombuffer(block, np.uint8), len(block))
        return others

    def add(self, pieces: Mapping[str, int], later: bool) -> None:
        """Count pieces of one stretch, given as text; ``later``: they followed a space."""
        raw = [piece.encode() for piece in pieces]
        lengths = np.array([len(piece) for piece in raw], np.int64)
        found = np.empty((len(raw), 4), np.int64)
        found[:, COUNT] = list(pieces.values())
        found[:, WEIGHT] = [weight(count) for count in pieces.values()]
        found[:, PLACE] = (np.cumsum(lengths) - lengths) << BEGIN | lengths << 1 | later
        data = np.frombuffer(b"".join(raw), np.uint8)
        hash_all(found, data)
        self._take(found[lengths < LONGEST], data, len(data))

    def pieces(self, least: int = 1) -> "Pieces":
        """Return all pieces that occurred at least ``least`` times, in no particular order."""
        rows = np.empty((self.size, 4), np.int64)
        return Pieces(rows[: _pick(self.slots, least, LAST_HASH, rows)])

    def _frequency(self, rank: int) -> int:
        """Return how often the piece of this rank occurred; rank 1 is the most frequent."""
        return int(np.partition(self.slots[:, COUNT], -rank)[-rank])

    def total(self) -> int:
        """Return how many pieces were counted, repeats included."""
        return int(self.slots[:, COUNT].sum())

    def merge(self, pieces: "Pieces", text: bytes) -> None:
        """Add the ``pieces`` of another table, whose ``text`` is given too."""
        source, lengths = np.frombuffer(text, np.uint8), pieces.lengths
        for begin in range(0, len(pieces), SMALL):  # in batches: many pieces are known already and need no room
            end = begin + SMALL
            self._take(pieces.rows[begin:end], source, int(lengths[begin:end].sum()))

    def most_frequent(self, most: int) -> "Pieces":
        """Return the ``most`` most frequent pieces, most frequent first, ties by smaller hash."""
        rows = self.pieces(self._frequency(most) if self.size > most else 1).rows
        return Pieces(rows[np.lexsort((rows[:, HASH], -rows[:, COUNT]))[:most]])

    def prune(self, most: int) -> None:
        """If there are more than ``most`` pieces, keep half of ``most``: the most frequent, ties by smaller hash.

        Works in existing memory and in spare memory that is kept: allocating takes longer than the work.
        """
        if self.size <= most:
            return
        least = self._frequency(most // 2)
        counts = self.slots[:, COUNT]
        room = most // 2 - np.count_nonzero(counts > least)
        last = np.partition(self.slots[counts == least, HASH], room - 1)[room - 1]
        if len(self.spare_rows) < most // 2:
            self.spare_rows = np.empty((most // 2, 4), np.int64)
        if len(self.spare_text) < len(self.text):
            self.spare_text = np.empty_like(self.text)
        kept = self.spare_rows[: _pick(self.slots, least, last, self.spare_rows)]
        self.slots[:] = 0
        self.text, self.spare_text = self.spare_text, self.text
        self.size, self.length = _enter(kept, self.spare_text, self.slots, self.text, 0, 0)

    def texts(self, pieces: "Pieces") -> list[str]:
        """Return the text of each of some pieces of this table."""
        raw, begins, lengths = self.text[: self.length].tobytes(), pieces.begins.tolist(), pieces.lengths.tolist()
        return [raw[begin : begin + length].decode() for begin, length in zip(begins, lengths, strict=True)]

    def _take(self, found: npt.NDArray[np.int64], source: npt.NDArray[np.uint8], length: int) -> None:
        """Insert pieces whose texts are in ``source`` and have ``length`` bytes at most; grow the table if needed."""
        if self.size + len(found) > FULLEST * len(self.slots):
            slots = self.slots
            room = len(slots) * (SMALL_GROWTH if len(slots) < LARGE else 2)
            while self.size + len(found) > FULLEST * room:
                room *= 2
            self.slots = _free_slots(room)
            _rehash(slots, self.slots)
        if self.length + length > len(self.text):
            longer = np.zeros(2 * (self.length + length), np.uint8)
            longer[: self.length] = self.text[: self.length]
            self.text = longer
        self.size, self.length = _enter(found, source, self.slots, self.text, self.size, self.length)


@dataclass(frozen=True)
class Pieces:
    """Some pieces as rows, [pieces, 4], with the columns ``HASH``, ``COUNT``, ``WEIGHT`` and ``PLACE``."""

    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each occurred."""
        return self.rows[:, COUNT]

    @property
    def weights(self) -> npt.NDArray[np.int64]:
        """Weight of each for learning."""
        return self.rows[:, WEIGHT]

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """Offset of each piece's text, in bytes."""
        return self.rows[:, PLACE] >> BEGIN

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each in bytes."""
        return self.rows[:, PLACE] >> 1 & (LONGEST - 1)

    @property
    def later(self) -> npt.NDArray[np.int64]:
        """1 for pieces that followed a space, else 0."""
        return self.rows[:, PLACE] & 1


def _free_slots(count: int) -> npt.NDArray[np.int64]:
    """Return empty slots, aligned so that none crosses a cache line."""
    room = np.zeros(4 * count + LINE // 8, np.int64)
    begin = -room.ctypes.data % LINE // 8
    return room[begin : begin + 4 * count].reshape(count, 4)


@compiled
def _enter(found: Any, source: Any, slots: Any, text: Any, size: int, length: int) -> tuple[int, int]:
    """Insert pieces into the table, which must have room; return its new size and text length."""
    for i in range(len(found)):
        if i + AHEAD < len(found):
            prefetch(slots, found[i + AHEAD, HASH] & (len(slots) - 1))
        value = found[i, HASH]
        slot = value & (len(slots) - 1)
        while slots[slot, HASH] and slots[slot, HASH] != value:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot, COUNT] += found[i, COUNT]
        slots[slot, WEIGHT] += found[i, WEIGHT]
        if slots[slot, HASH] == 0:
            slots[slot, HASH] = value
            begin, bytes_ = found[i, PLACE] >> BEGIN, found[i, PLACE] >> 1 & (LONGEST - 1)
            for at in range(bytes_):  # ten times as fast as a slice assignment, for so few bytes
                text[length + at] = source[begin + at]
            slots[slot, PLACE] = length << BEGIN | found[i, PLACE] & (2 * LONGEST - 1)
            size, length = size + 1, length + bytes_
    return size, length


@compiled
def _pick(slots: Any, least: int, last: int, rows: Any) -> int:
    """Copy the pieces with a higher count than ``least``, or this one and a hash up to ``last``; return how many."""
    found = 0
    for slot in range(len(slots)):
        value, count = slots[slot, HASH], slots[slot, COUNT]
        if value and (count > least or (count == least and value <= last)):
            rows[found] = slots[slot]
            found += 1
    return found


@compiled
def _rehash(slots: Any, to: Any) -> None:
    """Copy all pieces into a larger, empty table."""
    for old in range(len(slots)):
        if slots[old, HASH]:
            slot = slots[old, HASH] & (len(to) - 1)
            while to[slot, HASH]:
                slot = (slot + 1) & (len(to) - 1)
            to[slot] = slots[old]
