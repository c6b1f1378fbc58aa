"""Cut a plan into portions, to bound how many source rows a process holds at once."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

TERMS_PER_ROW = 8
"""Most terms of a part, as a multiple of ``max_rows``."""


class Portion(NamedTuple):
    """Rows ``first`` to ``last`` of a plan, and the parts in which their terms are processed.

    A part is a range in the plan's arrays of terms. Only a portion of one long row has several parts.
    """

    first: int
    last: int
    parts: list[tuple[int, int]]

    def part(self, number: int) -> tuple[int, int]:
        """Return the part with this number, or an empty range if there are fewer."""
        return self.parts[number] if number < len(self.parts) else (0, 0)


def cut(combination: csr_matrix, first: int, last: int, max_rows: int) -> list[Portion]:
    """Cut rows ``first`` to ``last`` into portions of at most ``max_rows`` rows.

    Each part of a portion uses at most ``max_rows`` source rows.
    """
    ends, names = combination.indptr, combination.indices
    places = np.zeros(combination.shape[1], dtype=np.int64)
    found = []
    while first < last:
        begin, end = int(ends[first]), int(ends[last])
        stop = _part_end(names, begin, end, max_rows, places)
        following = min(int(np.searchsorted(ends, stop, side="right")) - 1, first + max_rows, last)
        parts = [(begin, int(ends[following]))]
        if following == first:
            following, parts = first + 1, []
            while begin < ends[following]:
                stop = _part_end(names, begin, int(ends[following]), max_rows, places)
                parts.append((begin, stop))
                begin = stop
        found.append(Portion(first, following, parts))
        first = following
    return found


def _part_end(names: np.ndarray, begin: int, end: int, max_rows: int, places: np.ndarray) -> int:
    """Return where the terms from ``begin`` on would need more than ``max_rows`` source rows, or be too many.

    ``places`` is scratch memory: an integer per source row.
    """
    end = min(end, begin + TERMS_PER_ROW * max_rows)
    part, numbers = names[begin:end], np.arange(end - begin)
    places[part[::-1]] = numbers[::-1]  # each row's first occurrence: the last assignment wins
    new = np.flatnonzero(places[part] == numbers)
    return begin + int(new[max_rows]) if len(new) > max_rows else end
