"""Counts of words and their weights for learning: repeats within a stretch of text count by their square root.

A text has topics, and the words of a topic repeat where it is discussed (burstiness: Church and Gale, "Poisson
mixtures", 1995). By plain counts such words would displace those that occur in any text of the language.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from nemo_adapt.machine.compiled import compiled
from nemo_adapt.partition import filled

STRETCH = 1 << 14
"""Bytes of text within which repeats are damped, chosen from 300 to 65,536: larger values help Turkish more, but Arabic
less (``benchmarks/results/vocabulary.md``)."""
ONCE = 64
"""Weight of a word that occurs once in a stretch. Weights are integers, so their sums do not depend on the order."""


@compiled
def weight(count: int) -> int:
    """Return the weight of ``count`` occurrences in one stretch: ``ONCE`` times the square root, rounded."""
    return int(ONCE * math.sqrt(count) + 0.5)


@dataclass
class Tally:
    """Distinct strings, the same in both counters: how often each occurs, and its weight for learning."""

    counts: Counter[str] = field(default_factory=Counter)
    weights: Counter[str] = field(default_factory=Counter)

    def add(self, string: str, count: int, weight: int) -> None:
        """Add ``count`` occurrences of a string, and their weight."""
        self.counts[string] = self.counts.get(string, 0) + count  # Counter's += takes twice as long for a new string
        self.weights[string] = self.weights.get(string, 0) + weight

    def add_stretch(self, counts: Mapping[str, int]) -> None:
        """Add the counts of one stretch."""
        for string, count in counts.items():
            self.add(string, count, weight(count))

    def most_common(self, most: int) -> "Tally":
        """Return the ``most`` strings with the highest counts."""
        kept = Counter(dict(self.counts.most_common(most)))
        return Tally(kept, Counter({string: self.weights[string] for string in kept}))


def stretches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Yield consecutive documents that together have ``STRETCH`` bytes, or a few more; the last may have fewer."""
    return filled(documents, lambda document: len(document.encode()), STRETCH)
