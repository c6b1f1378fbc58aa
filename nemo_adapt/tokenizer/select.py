"""Select the new tokens: learn more than asked for, review by encoding, drop some, and replace them with later ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.methods import Method, Request
from nemo_adapt.tokenizer.review import Guard, Review, review

MAX_LEARNINGS = 3
"""Most learning runs that make up for tokens that the guard forbids by merging words in other ways."""
RELEARN_SHARE = 0.002
"""Learn again if the guard dropped more than this share of the tokens asked for."""
SPARE_SHARE = 0.1
"""Share of extra tokens to learn, at least ``MIN_SPARE``, as replacements for dropped ones."""
MIN_SPARE = 100
MORE_SPARE = 4
"""Factor of the tokens to spare where too few were left."""


@dataclass
class Selection:
    """The chosen tokens, in order, and the report on them."""

    tokens: list[str] = field(default_factory=list)
    fires: Counter[str] = field(default_factory=Counter)
    """Token -> how often it occurs in the encoded training text."""
    report: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settled:
    """The tokens of an order for a size, all reachable and within the guard's share, and those that were dropped."""

    tokens: list[str]
    found: Review
    unreachable: set[str]
    disturbing: set[str]


@dataclass
class Learned:
    """The learned order, best token first: any number of tokens up to ``request.asked`` can be settled from it."""

    request: Request
    guard: Guard
    order: list[str]
    learnings: int
    banned: set[str]
    """Tokens dropped for the guard text after a learning run; the next run must not choose them."""
    guard_changed: int
    """Guard tokens that the tokens of the first learning run would have changed."""
    settled: dict[int, Settled]
    """Size -> the tokens settled for it."""

    def settle(self, size: int) -> Settled:
        """Return the tokens for ``size``, computed once; ``banned`` are those found for ``request.asked`` tokens."""
        if size not in self.settled:
            self.settled[size] = settle(self.request.base, self.order, size, self.request.words.counts, self.guard)
        return self.settled[size]

    def tokens(self, size: int) -> list[str]:
        """Return the tokens of :meth:`settle`."""
        return self.settle(size).tokens


def learn_order(method: Method, request: Request, guard: Guard) -> Learned:
    """Learn ``request.asked`` tokens and some extra: again as long as the guard forbids many of them, and with more to
    spare as long as too few can be kept and there are more to learn."""
    learned = Learned(request, guard, [], 0, set(), 0, {})
    spare = max(MIN_SPARE, int(request.asked * SPARE_SHARE))

    def learn(title: str) -> None:
        learned.order = method(_without(request, learned.banned, title), request.asked + spare)
        learned.learnings += 1
        learned.settled.clear()

    learn(f"learning {request.asked:,} tokens and {spare:,} to spare")
    while disturbing := _too_many_disturbing(learned):
        learned.banned |= disturbing
        spare = max(spare, len(disturbing))
        learn(f"learning again with {spare:,} to spare, without {len(learned.banned):,} for the guard text")
    while len(learned.order) == request.asked + spare and len(learned.tokens(request.asked)) < request.asked:
        spare *= MORE_SPARE
        learn(f"learning again with {spare:,} to spare, as too few of {len(learned.order):,} can be kept")
    return learned


def _too_many_disturbing(learned: Learned) -> set[str]:
    """Return the tokens that change too much of the guard text if they are so many that others have to be learned."""
    if not learned.guard.words:
        return set()
    request = learned.request
    found = review(request.base, learned.order[: request.asked], request.words.counts, learned.guard)
    learned.guard_changed = learned.guard_changed or found.guard_changed
    is_enough = learned.learnings == MAX_LEARNINGS or len(found.disturbing) <= request.asked * RELEARN_SHARE
    return set() if is_enough else found.disturbing


def select(learned: Learned, size: int) -> Selection:
    """Return the tokens settled for ``size``, all reachable and within the guard's share, with the report."""
    settled = learned.settle(size)
    tokens, found = settled.tokens, settled.found
    steps = sum(not found.fires[token] for token in tokens)
    dropped = len(settled.unreachable)
    report = {
        "asked": size,
        "added": len(tokens),
        "learnings": learned.learnings,
        "unreachable": {"found": dropped, "dropped": dropped, "left": len(found.unreachable)},
        "steps_only": {"tokens": steps, "share": round(steps / len(tokens), 4) if tokens else 0.0},
        "training_tokens": found.tokens,
        "guard": {
            "tokens": found.guard_tokens,
            "changed_before": learned.guard_changed,
            "changed_after": found.guard_changed,
            "allowed_share": learned.guard.share,
            "dropped": len(learned.banned | settled.disturbing),
        },
    }
    return Selection(tokens, found.fires, report)


def settle(base: Base, order: Sequence[str], asked: int, words: Counter[str], guard: Guard) -> Settled:
    """Return the first ``asked`` tokens of ``order`` without those that must be dropped, which later ones replace."""
    unreachable: set[str] = set()
    disturbing: set[str] = set()
    before: set[str] = set()
    tokens = list(order[:asked])
    while True:
        found = review(base, tokens, words, guard)
        worst = found.disturbing
        if disturbing:  # the guard's share is used up: replacements must not occur in its text
            worst = worst | (found.touching - before)
        if found.unreachable or worst:
            before = before or set(tokens)
            unreachable |= found.unreachable
            disturbing |= worst
            # try all possible replacements at once, so that few rounds are needed
            tokens = [token for token in order if token not in unreachable and token not in disturbing]
        elif len(tokens) > asked:
            tokens = tokens[:asked]
        else:
            return Settled(tokens, found, unreachable, disturbing)


def _without(request: Request, banned: set[str], title: str) -> Request:
    """Return the request with the banned tokens disallowed, and another title."""
    return replace(request, allow=lambda token: token not in banned and request.allow(token), title=title)
