"""Cut a plan into portions, so that what a process holds of the source at once is bounded."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

TERMS_A_ROW = 8
"""A portion has at most this many terms for each source row that there is room for."""


class Portion(NamedTuple):
    """Rows ``first`` to ``last`` of a plan, and the parts in which their terms are worked on.

    Several parts are those of one long row. A part is a range in the plan's arrays of terms.
    """

    first: int
    last: int
    parts: list[tuple[int, int]]

    def part(self, number: int) -> tuple[int, int]:
        """The part of that number, empty where there are not so many."""
        return self.parts[number] if number < len(self.parts) else (0, 0)


def cut(combination: csr_matrix, first: int, last: int, room: int) -> list[Portion]:
    """Rows ``first`` to ``last`` in portions of at most ``room`` rows, each part with at most ``room`` source rows."""
    ends, names = combination.indptr, combination.indices
    places = np.zeros(combination.shape[1], dtype=np.int64)
    found = []
    while first < last:
        begin, end = int(ends[first]), int(ends[last])
        stop = _reach(names, begin, end, room, places)
        following = min(int(np.searchsorted(ends, stop, side="right")) - 1, first + room, last)
        parts = [(begin, int(ends[following]))]
        if following == first:
            following, parts = first + 1, []
            while begin < ends[following]:
                stop = _reach(names, begin, int(ends[following]), room, places)
                parts.append((begin, stop))
                begin = stop
        found.append(Portion(first, following, parts))
        first = following
    return found


def _reach(names: np.ndarray, begin: int, end: int, room: int, places: np.ndarray) -> int:
    """How far from the term ``begin`` on the terms name no more than ``room`` source rows.

    ``places`` is room for a number of each source row.
    """
    end = min(end, begin + TERMS_A_ROW * room)
    part, numbers = names[begin:end], np.arange(end - begin)
    places[part[::-1]] = numbers[::-1]  # where a row is named first: the last one that is set stays
    new = np.flatnonzero(places[part] == numbers)
    return begin + int(new[room]) if len(new) > room else end
