"""Choosing the new tokens: learn more than asked, review by encoding, drop, move up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.methods import Method, Request
from nemo_adapt.tokenizer.review import Guard, Review, review

LEARNINGS = 3
"""Times the tokens are learned at most: what the guard forbids is made up for by other ways to join words."""
FEW = 0.002
"""Learning again is worth it when the guard has dropped more than this share of what is asked."""
SPARE = 0.1
"""This share more than asked is learned, and ``SPARE_LEAST`` at least, to move up where tokens are dropped."""
SPARE_LEAST = 100


@dataclass
class Selection:
    """The chosen tokens, in order, and what was found on the way."""

    tokens: list[str] = field(default_factory=list)
    fires: Counter[str] = field(default_factory=Counter)
    """Token -> how often it fires in the training text."""
    report: dict[str, Any] = field(default_factory=dict)


@dataclass
class Settled:
    """So many tokens of an order as were asked, all reachable, within the guard's share."""

    tokens: list[str]
    found: Review
    unreachable: set[str]
    disturbing: set[str]


@dataclass
class Learned:
    """What was learned, the best first: any number of tokens up to ``asked`` can be settled from it."""

    request: Request
    guard: Guard
    order: list[str]
    learnings: int
    banned: set[str]
    """Tokens that were dropped on the way for the guard text."""
    guard_changed: int
    """Guard tokens that the tokens learned first would have changed."""
    settled: dict[int, Settled]
    """Size -> what was settled for it."""

    def settle(self, size: int) -> Settled:
        """The tokenizer that asking for ``size`` gives; for the guard's sake its drops are those of ``asked``."""
        if size not in self.settled:
            self.settled[size] = settle(self.request.base, self.order, size, self.request.words.counts, self.guard)
        return self.settled[size]

    def tokens(self, size: int) -> list[str]:
        """The tokens of :meth:`settle`."""
        return self.settle(size).tokens


def learn_order(method: Method, request: Request, guard: Guard) -> Learned:
    """Learn ``request.asked`` tokens and some to spare, again as long as the guard forbids many of them."""
    learned = Learned(request, guard, [], 0, set(), 0, {})
    spare = max(SPARE_LEAST, int(request.asked * SPARE))
    title = f"learning {request.asked:,} tokens and {spare:,} to spare"
    while True:
        learned.order = method(_without(request, learned.banned, title), request.asked + spare)
        learned.learnings += 1
        if not guard.words:
            return learned
        found = review(request.base, learned.order[: request.asked], request.words.counts, guard)
        learned.guard_changed = learned.guard_changed or found.guard_changed
        if learned.learnings == LEARNINGS or len(found.disturbing) <= request.asked * FEW:
            return learned
        learned.banned |= found.disturbing
        spare = max(spare, len(found.disturbing))
        title = f"learning again with {spare:,} to spare, without {len(learned.banned):,} for the guard text"


def select(learned: Learned, size: int) -> Selection:
    """The first ``size`` tokens of what was learned, all reachable, that leave the guard text as it may be left."""
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
    """The first ``asked`` tokens of ``order`` less those that must be dropped, for which later ones move up."""
    unreachable: set[str] = set()
    disturbing: set[str] = set()
    before: set[str] = set()
    tokens = list(order[:asked])
    while True:
        found = review(base, tokens, words, guard)
        worst = found.disturbing
        if disturbing:  # the guard has no room left: what moves up must leave it alone
            worst = worst | (found.touching - before)
        if found.unreachable or worst:
            before = before or set(tokens)
            unreachable |= found.unreachable
            disturbing |= worst
            # all that could move up at once, so that few rounds are needed
            tokens = [token for token in order if token not in unreachable and token not in disturbing]
        elif len(tokens) > asked:
            tokens = tokens[:asked]
        else:
            return Settled(tokens, found, unreachable, disturbing)


def _without(request: Request, banned: set[str], title: str) -> Request:
    """The same request, less the banned tokens."""
    return replace(request, allow=lambda token: token not in banned and request.allow(token), title=title)
