"""Count a corpus in pieces between single spaces, on all cores; ``count_words`` then spells each distinct piece once.

Light imports only: the counting processes start with this module.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from nemo_adapt.console.progress import Bar, OnProgress, say
from nemo_adapt.corpora import text
from nemo_adapt.corpora.lines import Part
from nemo_adapt.corpora.text_files import ignore
from nemo_adapt.hf_tokenizer.byte_level import SINGLE_SPACE
from nemo_adapt.machine.workers import cores, shared_counters, team
from nemo_adapt.tokenizer.counts import Counts, Pieces
from nemo_adapt.tokenizer.scan import odd_bytes
from nemo_adapt.tokenizer.tally import Tally, stretches

MAX_TYPES = 4_000_000
"""Distinct pieces that a process holds while counting; beyond, it drops the rarer half (256 MiB and texts)."""
ALONE_BYTES = 32 << 20
"""Text up to this size is counted in this process, because starting others takes longer."""


@dataclass
class PieceCounts:
    """Counts of the pieces of a stretch, whose lines are split at single spaces between visible characters.

    ``first``: those that begin a line or follow an added token; ``later``: those after a space, which is left out.
    """

    first: Counter[str] = field(default_factory=Counter)
    later: Counter[str] = field(default_factory=Counter)

    def take(self, line: str) -> None:
        """Count the pieces of one line."""
        pieces = SINGLE_SPACE.split(line)
        self.first[pieces[0]] += 1
        self.later.update(pieces[1:])


class Tallies(NamedTuple):
    """The pieces of a corpus, divided as in :class:`PieceCounts`."""

    first: Tally
    later: Tally


def count_pieces(
    files: list[Path], field: str, added: Sequence[str], title: str, most: int, processes: int = 0
) -> Tallies:
    """Return the ``most`` most frequent pieces of ``files``, counted in ``processes`` in one pass.

    ``processes`` 0: one per core, or only this one for small text. Lines are first split at the texts of ``added``,
    which are not counted. The result is the same for any number of processes, unless one saw more than ``MAX_TYPES``
    distinct pieces. Raises ``UserError`` for text that cannot be read.
    """
    alone = not processes and text.total_bytes(files) <= ALONE_BYTES
    processes = 1 if alone else processes or cores()
    parts = text.parts(files, processes)
    with Bar(title, text.total_bytes(files) / 1e6, "MB") as bar:
        if processes == 1:
            counts = count_parts(parts, field, added, lambda amount: bar.advance(amount / 1e6))
        else:
            counts = _in_processes(min(processes, len(parts)), parts, field, added, bar)
    kept = counts.most_frequent(most)
    if len(kept) < counts.size:
        share = kept.counts.sum() / counts.total()
        say(f"{title}: the {len(kept):,} most frequent of {counts.size:,} distinct words, {share:.1%} of the text")
    texts, later = counts.texts(kept), kept.later.tolist()
    tallies = Tallies(Tally(), Tally())
    for piece, count, weight, followed in zip(texts, kept.counts.tolist(), kept.weights.tolist(), later, strict=True):
        tallies[followed].counts[piece], tallies[followed].weights[piece] = count, weight
    return tallies


def count_parts(parts: Iterable[Part], field: str, added: Sequence[str], on_progress: OnProgress = ignore) -> Counts:
    """Count the pieces of some parts of files in this process."""
    counts, odd = Counts(), odd_bytes(added)
    split = added_pattern(added).split
    for part in parts:
        for block in text.part_blocks(part, field, on_progress):
            for stretch in stretches(document.decode().strip() for document in counts.count(block, odd)):
                pieces = PieceCounts()
                for line in filter(None, itertools.chain.from_iterable(map(split, stretch))):
                    pieces.take(line)
                counts.add(pieces.first, False)
                counts.add(pieces.later, True)
            counts.prune(MAX_TYPES)
    return counts


def added_pattern(added: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of the texts ``added``, longest first; without texts it matches nothing."""
    return re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")


def _counted(parts: list[Part], field: str, added: Sequence[str]) -> tuple[Pieces, bytes]:
    shared = shared_counters()
    mine = (parts[number] for number in shared.take(len(parts)))
    counts = count_parts(mine, field, added, lambda amount: shared.advance(amount / 1e6))
    return counts.pieces(), counts.text[: counts.length].tobytes()


def _in_processes(processes: int, parts: list[Part], field: str, added: Sequence[str], bar: Bar) -> Counts:
    """Count in ``processes`` processes, which take parts until none is left; this one counts too, into the result."""
    with team(processes - 1, bar) as others:
        others.submit(_counted, parts, field, added)
        mine = (parts[number] for number in others.counters.take(len(parts)))
        counts = count_parts(mine, field, added, lambda amount: others.advance(amount / 1e6))
        for future in as_completed(others.others):
            others.show()
            counts.merge(*future.result())
            others.others.remove(future)  # with its result
    return counts
