"""Counting a corpus in pieces between single spaces, in all cores; ``words`` then spells each distinct piece once.

Only light imports: the processes that count start with this module.
"""

import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from nemo_adapt import text
from nemo_adapt.progress import Bar
from nemo_adapt.text_files import Part, Seen, ignore

MAX_TYPES = 2_000_000
"""Distinct pieces that a process keeps while counting; beyond, the rarest half is forgotten (about 300 MB)."""
ALONE_BYTES = 8 << 20
"""Text up to this size is counted in this process: starting others takes longer."""
PER_CHECK = 256
"""Documents between two looks at the number of types."""
MARK = "▁"
"""SentencePiece's own sign for a space: in a text it is one more space."""
SAFE_CUT = re.compile(rf"(?<=[^\s{MARK}]) (?=[^\s{MARK}])")


@dataclass
class Chunks:
    """How often each piece of text occurs, where lines are cut at single spaces between visible characters.

    ``first`` are those that begin a line (or follow an added token), ``later`` had a space in front, which is left out.
    """

    first: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)

    def take(self, line: str) -> None:
        """Count the pieces of one line."""
        pieces = line.split(" ")
        if (
            MARK in line or pieces != line.split()
        ):  # other white space, or several in a row: slower, but cuts only where it is safe
            pieces = SAFE_CUT.split(line)
        self.first[pieces[0]] += 1
        if len(pieces) > 1:
            self.later.update(pieces[1:])

    def merge(self, other: "Chunks") -> None:
        """Add what another process counted."""
        self.first.update(other.first)
        self.later.update(other.later)

    def prune(self) -> None:
        """Forget the rarest half of what has grown beyond ``MAX_TYPES``."""
        for counts in (self.first, self.later):
            if len(counts) > MAX_TYPES:
                kept = counts.most_common(MAX_TYPES // 2)
                counts.clear()
                counts.update(dict(kept))


def count_chunks(files: list[Path], field: str, added: str, title: str, processes: int = 0) -> Chunks:
    """Count the pieces of ``files`` in ``processes`` (0: one per core); the text is read once.

    ``added`` is a pattern at whose matches lines are cut first, and which are not counted. The counts are the same for
    any number of processes, unless types had to be forgotten. Raises ``UserError`` for text that cannot be read.
    """
    alone = not processes and text.total_bytes(files) <= ALONE_BYTES
    shares = text.shares(files, 1 if alone else processes or cores())
    with Bar(title, text.total_bytes(files) / 1e6, "MB") as bar:
        if len(shares) == 1:
            return count_share(shares[0], field, added, lambda amount: bar.advance(amount / 1e6))
        return _in_processes(shares, field, added, bar)


def count_share(parts: Iterable[Part], field: str, added: str, seen: Seen = ignore) -> Chunks:
    """Count the pieces of some parts of files in this process."""
    chunks = Chunks()
    split = re.compile(added).split if added else None
    documents = (document for part in parts for document in text.part_documents(part, field, seen))
    for number, document in enumerate(documents):
        for line in split(document) if split else (document,):
            if line:
                chunks.take(line)
        if not number % PER_CHECK:
            chunks.prune()
    return chunks


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_shared: "Synchronized[float] | None" = None
"""In a counting process: bytes read by all of them."""


def _start(shared: "Synchronized[float]") -> None:
    global _shared
    _shared = shared


def _see(amount: float) -> None:
    assert _shared is not None
    with _shared.get_lock():
        _shared.value += amount


def _counted(parts: list[Part], field: str, added: str) -> Chunks:
    return count_share(parts, field, added, _see)


def _in_processes(shares: list[list[Part]], field: str, added: str, bar: Bar) -> Chunks:
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that are running here
    shared = context.Value("d", 0.0)
    chunks = Chunks()
    with ProcessPoolExecutor(len(shares), context, _start, (shared,)) as pool:
        futures = [pool.submit(_counted, parts, field, added) for parts in shares]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, 0.2, FIRST_EXCEPTION)
            bar.advance(shared.value / 1e6 - bar.done)
            for future in done:
                chunks.merge(future.result())
                chunks.prune()
    return chunks
