"""Learning new tokens on top of a base: byte-pair encoding by the rule of SentencePiece.

Plain BPE counts pairs of neighbours and joins the pair it chose. SentencePiece, when it encodes, joins any two
neighbours whose *joined* piece is in the vocabulary, best piece first. Here the same rule is used to learn: candidates
are joined strings, counted over all pairs that make them, and after each choice the words that hold it are brought to
the state in which an encoder with the vocabulary so far would leave them. So what is learned is what will be encoded.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

MIN_COUNT = 2
"""A token must save this many tokens in the training text."""
SHIFT = 32
NO_JOIN = -1


def learn(
    words: Iterable[tuple[Sequence[str], int]],
    merging: Sequence[str],
    missing: Mapping[str, int],
    wanted: int,
    allow: Callable[[str], bool],
    progress: Callable[[int], None] = lambda amount: None,
) -> list[str]:
    """Choose up to ``wanted`` new tokens, the most useful first.

    ``words`` are (tokens under the vocabulary so far, count). ``merging`` are the pieces, best first, that are joined
    whenever their parts meet. ``missing`` are characters that stand in ``words`` but are no tokens yet, with the number
    of tokens that spell each now; one becomes a token, or takes part in one, only once chosen. ``allow`` says of a
    joined string whether it may be chosen. Counts are tokens saved in the training text. Deterministic.
    """
    learner = _Learner(merging, missing, allow)
    learner.fill(words)
    chosen: list[str] = []
    while len(chosen) < wanted and (best := learner.best()) is not None:
        learner.choose(best)
        chosen.append(learner.strings[best])
        progress(1)
    return chosen


class _Learner:
    """The state: words as lists of string numbers, their candidates, and every candidate's count and places."""

    def __init__(self, merging: Sequence[str], missing: Mapping[str, int], allow: Callable[[str], bool]) -> None:
        self.strings: list[str] = []
        self.numbers: dict[str, int] = {}
        self.joins: dict[int, int] = {}
        self.allow = allow
        self.rank = {self.number(piece): i for i, piece in enumerate(merging)}
        self.missing = {self.number(character): spelled - 1 for character, spelled in missing.items()}
        self.sequences: list[list[int]] = []
        self.weights: list[int] = []
        self.candidates: list[list[int]] = []
        self.counts: defaultdict[int, int] = defaultdict(int)
        self.places: defaultdict[int, set[int]] = defaultdict(set)
        self.heap: list[tuple[int, int]] = []

    def number(self, string: str) -> int:
        found = self.numbers.get(string)
        if found is None:
            found = self.numbers[string] = len(self.strings)
            self.strings.append(string)
        return found

    def fill(self, words: Iterable[tuple[Sequence[str], int]]) -> None:
        """Take the words in and count their candidates."""
        counts, places, missing = self.counts, self.places, self.missing
        for place, (tokens, weight) in enumerate(words):
            sequence = [self.number(token) for token in tokens]
            found = self.encode(sequence)
            self.sequences.append(sequence)
            self.weights.append(weight)
            self.candidates.append(found)
            for join in found:
                counts[join] += weight
                places[join].add(place)
            for token in missing.keys() & set(sequence) if missing else ():
                counts[token] += weight * missing[token] * sequence.count(token)
                places[token].add(place)
        self.heap = [(-count, join) for join, count in counts.items() if count >= MIN_COUNT]
        heapq.heapify(self.heap)

    def join(self, left: int, right: int) -> int:
        """The number of the joined string if it is or may become a token, else ``NO_JOIN``."""
        if left in self.missing or right in self.missing:
            return NO_JOIN  # not remembered: it changes once the character is chosen
        joined = self.number(self.strings[left] + self.strings[right])
        if joined not in self.rank and not self.allow(self.strings[joined]):
            joined = NO_JOIN
        self.joins[left << SHIFT | right] = joined
        return joined

    def best(self) -> int | None:
        """The candidate that saves most, or ``None`` when none saves ``MIN_COUNT``."""
        heap, counts = self.heap, self.counts
        while heap:
            count, join = heapq.heappop(heap)
            now = counts.get(join, 0)
            if now == -count and join not in self.rank:
                return join
            if MIN_COUNT <= now < -count:
                heapq.heappush(heap, (-now, join))
        return None

    def choose(self, chosen: int) -> None:
        """Make ``chosen`` a token and re-encode the words that hold it."""
        self.rank[chosen] = len(self.rank)
        self.missing.pop(chosen, None)
        change: defaultdict[int, int] = defaultdict(int)
        places = self.places
        for place in places.pop(chosen):
            weight = self.weights[place]
            for join in self.candidates[place]:
                change[join] -= weight
            found = self.candidates[place] = self.encode(self.sequences[place])
            for join in found:
                change[join] += weight
                places[join].add(place)
        for join, amount in change.items():
            if amount:
                count = self.counts[join] = self.counts[join] + amount
                if amount > 0 and count >= MIN_COUNT:
                    heapq.heappush(self.heap, (-count, join))

    def encode(self, sequence: list[int]) -> list[int]:
        """Join neighbours in place, the best-ranked joined string first, the leftmost where equal.

        Returns the strings that neighbours would make once nothing more is joined: the word's candidates.
        """
        rank, known = self.rank, self.joins
        worst = len(rank)
        while True:
            best, at, found = worst, 0, []
            left = sequence[0]
            for i, right in enumerate(sequence[1:]):
                join = known.get(left << SHIFT | right)
                if join is None:
                    join = self.join(left, right)
                if join >= 0:
                    found.append(join)
                    if join in rank and rank[join] < best:
                        best, at = rank[join], i
                left = right
            if best == worst:
                return found
            sequence[at : at + 2] = [known[sequence[at] << SHIFT | sequence[at + 1]]]
