"""Learning new tokens on top of a base: byte-pair encoding by the rule of SentencePiece.

Plain BPE counts pairs of neighbours and joins the pair it chose. SentencePiece, when it encodes, joins any two
neighbours whose *joined* piece is in the vocabulary, best piece first. Here the same rule is used to learn: candidates
are joined strings, counted over all pairs that make them, and after each choice the words that hold it are brought to
the state in which an encoder with the vocabulary so far would leave them. So what is learned is what will be encoded.

All words lie behind one another in arrays, a token to a position, and a choice is made at all its places at once.
"""

import heapq
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

MIN_COUNT = 2
"""A token must save this many tokens in the training text."""
SHIFT = 32
NONE = -1
FORBIDDEN = -(1 << 62)

Positions = npt.NDArray[np.int32]


def learn(
    words: Iterable[tuple[Sequence[str], int]],
    merging: Sequence[str],
    missing: Mapping[str, int],
    wanted: int,
    allow: Callable[[str], bool],
    progress: Callable[[int], None] = lambda amount: None,
) -> dict[str, int]:
    """Choose up to ``wanted`` new tokens, the most useful first; each with the tokens of the text that it saved then.

    ``words`` are (tokens under the vocabulary so far, count). ``merging`` are the pieces, best first, that are joined
    whenever their parts meet. ``missing`` are characters that stand in ``words`` but are no tokens yet, with the number
    of tokens that spell each now; one becomes a token, or takes part in one, only once chosen. ``allow`` says of a
    joined string whether it may be chosen. Deterministic; what is learned first does not depend on ``wanted``.
    """
    learner = _Learner(merging, missing, allow)
    learner.fill(words)
    chosen: dict[str, int] = {}
    while len(chosen) < wanted and (best := learner.best()) is not None:
        chosen[learner.strings[best]] = learner.counts[best]
        learner.choose(best)
        progress(1)
    return chosen


class _Learner:
    """The state. Strings (tokens and candidates) are numbered; what stands at a position is such a number.

    ``token``, ``left``, ``right`` (neighbours' positions), ``word`` and ``join`` (the string that the token makes with
    its right neighbour) have one entry per position. A position that a join has emptied has no neighbours. A missing
    character's token is ``~number`` until it is chosen.
    """

    def __init__(self, merging: Sequence[str], missing: Mapping[str, int], allow: Callable[[str], bool]) -> None:
        self.strings: list[str] = []
        self.numbers: dict[str, int] = {}
        self.counts = array("q")
        self.places: dict[int, array[int]] = {}
        self.heap: list[tuple[int, int, int]] = []
        self.allow = allow
        self.rank = {self.number(piece): i for i, piece in enumerate(merging)}
        self.missing = {self.number(character): spelled - 1 for character, spelled in missing.items()}

    def number(self, string: str) -> int:
        found = self.numbers.get(string)
        if found is None:
            found = self.numbers[string] = len(self.strings)
            self.strings.append(string)
            self.counts.append(0)
        return found

    def fill(self, words: Iterable[tuple[Sequence[str], int]]) -> None:
        """Take the words in and count their candidates."""
        tokens, lengths, weights = array("i"), array("i"), array("q")
        for word, weight in words:
            found = [self.number(token) for token in word]
            tokens.extend([~token if token in self.missing else token for token in found])
            lengths.append(len(found))
            weights.append(weight)
        self.token = np.array(tokens, np.int32)
        self.weights = np.array(weights, np.int64)
        size = np.array(lengths, np.int32)
        self.start = (np.cumsum(size) - size).astype(np.int32)
        everywhere = np.arange(len(self.token), dtype=np.int32)
        self.left, self.right = everywhere - 1, everywhere + 1
        self.left[self.start] = NONE
        self.right[self.start + size - 1] = NONE
        self.word = np.repeat(np.arange(len(size), dtype=np.int32), size)
        self.join = np.full(len(self.token), NONE, np.int32)
        for character, saves in self.missing.items():
            at = np.flatnonzero(self.token == ~character)
            self._add(character, int(self.weights[self.word[at]].sum()) * saves)
        self._encode(self._recount(everywhere))

    def best(self) -> int | None:
        """The candidate that saves most, or ``None`` when none saves ``MIN_COUNT``."""
        while self.heap:
            count, _, join = heapq.heappop(self.heap)
            now = self.counts[join]
            if now == -count and join not in self.rank:
                if self.allow(self.strings[join]):
                    return join
                self.counts[join] = FORBIDDEN
                self.places.pop(join, None)
            elif MIN_COUNT <= now < -count:
                heapq.heappush(self.heap, (-now, -self._spread(join), join))
        return None

    def choose(self, chosen: int) -> None:
        """Make ``chosen`` a token and bring the words that hold it to their new state."""
        self.rank[chosen] = len(self.rank)
        if chosen in self.missing:
            at = np.flatnonzero(self.token == ~chosen).astype(np.int32)
            self.token[at] = chosen
            before = self.left[at]
            self._encode(self._recount(np.unique(np.concatenate((at, before[before >= 0])))))
            return
        places = np.unique(np.frombuffer(self.places.pop(chosen), np.int32))
        at = places[self.join[places] == chosen]
        words = self.word[at]
        again = words[1:][words[1:] == words[:-1]]
        if again.size:  # twice in a word: the second may be gone when the first is joined
            at = at[~np.isin(words, again)]
        gone = self.right[at]
        before, after = self.left[at], self.right[gone]
        self.token[at], self.right[at] = chosen, after
        self.left[after[after >= 0]] = at[after >= 0]
        self.left[gone] = self.right[gone] = NONE
        ready = self._recount(np.concatenate((at, gone, before[before >= 0])))
        self._encode(np.concatenate((ready, again)))

    def _add(self, join: int, amount: int) -> None:
        count = self.counts[join] = self.counts[join] + amount
        if amount > 0 and count >= MIN_COUNT:
            heapq.heappush(self.heap, (-count, -self._spread(join), join))

    def _spread(self, join: int) -> int:
        """The places where a candidate has stood: of two that save the same, the one of more words comes first."""
        return len(self.places.get(join, ()))

    def _recount(self, at: Positions) -> Positions:
        """Count the candidates at these positions anew; the words where one of them is a token already."""
        weights = self.weights[self.word[at]]
        old = self.join[at]
        before, group = np.unique(old, return_inverse=True)
        for join, total in zip(before.tolist(), np.bincount(group, weights).tolist(), strict=True):
            if join >= 0:
                self.counts[join] -= int(total)
        self.join[at] = NONE
        inner = (self.right[at] >= 0) & (self.token[at] >= 0)
        inner[inner] = self.token[self.right[at[inner]]] >= 0
        at, weights = at[inner], weights[inner]
        if not at.size:
            return at
        pairs = self.token[at].astype(np.int64) << SHIFT | self.token[self.right[at]]
        pairs, group = np.unique(pairs, return_inverse=True)
        totals, sizes = np.bincount(group, weights).tolist(), np.cumsum(np.bincount(group)).tolist()
        ordered = at[np.argsort(group, kind="stable")]
        strings = self.strings
        joins: list[int] = []
        ready, begin = [], 0
        for i, (pair, total, end) in enumerate(zip(pairs.tolist(), totals, sizes, strict=True)):
            join = self.number(strings[pair >> SHIFT] + strings[pair & 0xFFFFFFFF])
            joins.append(join)
            if join in self.rank:
                ready.append(i)
            elif self.counts[join] > FORBIDDEN // 2:
                self.places.setdefault(join, array("i")).frombytes(ordered[begin:end].tobytes())
                self._add(join, int(total))
            begin = end
        self.join[at] = np.array(joins, np.int32)[group]
        return self.word[at[np.isin(group, ready)]] if ready else at[:0]

    def _encode(self, words: Positions) -> None:
        """Join in each of ``words`` as an encoder does: the best-ranked joined string first, leftmost where equal."""
        touched: list[int] = []
        for word in np.unique(words).tolist():
            at: list[int] = []
            position = int(self.start[word])
            while position >= 0:
                at.append(position)
                position = int(self.right[position])
            touched += at
            tokens = self.token[at].tolist()
            while (i := self._first_join(tokens)) is not None:
                tokens[i : i + 2] = [self.numbers[self.strings[tokens[i]] + self.strings[tokens[i + 1]]]]
                gone = at.pop(i + 1)
                self.left[gone] = self.right[gone] = NONE
            self.token[at] = tokens
            self.left[at] = [NONE, *at[:-1]]
            self.right[at] = [*at[1:], NONE]
        if touched:
            self._recount(np.array(touched, np.int32))

    def _first_join(self, tokens: list[int]) -> int | None:
        """Where the best-ranked join of a word begins."""
        best, at = len(self.rank), None
        for i in range(len(tokens) - 1):
            if tokens[i] >= 0 and tokens[i + 1] >= 0:
                join = self.numbers.get(self.strings[tokens[i]] + self.strings[tokens[i + 1]], NONE)
                rank = self.rank.get(join, best)
                if rank < best:
                    best, at = rank, i
        return at
