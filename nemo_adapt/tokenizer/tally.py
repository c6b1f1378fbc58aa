"""How often words occur, and what that is worth for learning: repeats within a stretch of text count by their root.

A text has topics, and a word that belongs to one comes again and again where it is spoken of (burstiness: Church and
Gale, "Poisson mixtures", 1995). By plain counts such words take the place of those that any text of the language has.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nemo_adapt.compiled import compiled

STRETCH = 1 << 14
"""Bytes of text in which repeats are damped, chosen among 300 to 65,536: more helps Turkish further, but Arabic less
(``benchmarks/results/vocabulary.md``)."""
ONCE = 64
"""The weight of a word that stands once in a stretch. Weights are integers: their sums do not depend on an order."""


@compiled
def weight(count: int) -> int:
    """What ``count`` occurrences in one stretch are worth: ``ONCE`` times the root."""
    return int(ONCE * math.sqrt(count) + 0.5)


@dataclass
class Tally:
    """Distinct strings, the same in both tables: how often each occurs, and its weight for learning."""

    counts: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)

    def add(self, string: str, count: int, weight: int) -> None:
        """Count a string."""
        self.counts[string] = self.counts.get(string, 0) + count  # a Counter takes twice as long to meet a new one
        self.weights[string] = self.weights.get(string, 0) + weight

    def add_stretch(self, counts: Mapping[str, int]) -> None:
        """Count what stands in one stretch."""
        for string, count in counts.items():
            self.add(string, count, weight(count))

    def most_common(self, most: int) -> "Tally":
        """The strings with the ``most`` highest counts."""
        kept = Counter(dict(self.counts.most_common(most)))
        return Tally(kept, Counter({string: self.weights[string] for string in kept}))


def stretches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in a row that have ``STRETCH`` bytes together, or a few more; the last ones may have fewer."""
    stretch: list[str] = []
    size = 0
    for document in documents:
        stretch.append(document)
        size += len(document.encode())
        if size >= STRETCH:
            yield stretch
            stretch, size = [], 0
    if stretch:
        yield stretch
