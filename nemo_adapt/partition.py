"""Rows in ranges, tensors in files, documents in batches, all of bounded size.

A range ends before its last number, as in Python.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def rows_in(most_bytes: int, row_bytes: int) -> int:
    """Return how many rows of ``row_bytes`` fit into ``most_bytes``, but at least one."""
    return max(1, most_bytes // max(1, row_bytes))


def blocks(start: int, stop: int, row_bytes: int, most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges that cover rows ``start`` to ``stop`` in order, each at most ``most_bytes`` (or one row)."""
    step = rows_in(most_bytes, row_bytes)
    for begin in range(start, stop, step):
        yield begin, min(begin + step, stop)


def even_bounds(rows: int, parts: int) -> tuple[int, ...]:
    """Return where each of ``parts`` nearly equal ranges of so many rows begins, and where the last one ends."""
    return tuple(rows * part // parts for part in range(parts + 1))


def filled(items: Iterable[T], size_of: Callable[[T], int], enough: int) -> Iterator[list[T]]:
    """Yield consecutive ``items`` that together have ``enough``, or a little more; the last list may have less."""
    found: list[T] = []
    size = 0
    for item in items:
        found.append(item)
        size += size_of(item)
        if size >= enough:
            yield found
            found, size = [], 0
    if found:
        yield found


def groups(items: Iterable[T], bytes_of: Callable[[T], int], most_bytes: int) -> list[list[T]]:
    """Cut ``items``, in order, into lists of at most ``most_bytes`` (or one item); without items, one empty list."""
    found: list[list[T]] = [[]]
    used = 0
    for item in items:
        size = bytes_of(item)
        if found[-1] and used + size > most_bytes:
            found.append([])
            used = 0
        found[-1].append(item)
        used += size
    return found
