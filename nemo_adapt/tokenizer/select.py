"""Choosing the new tokens: propose, review, drop, and ask again for as many."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_adapt.tokenizer.methods import Method, Request
from nemo_adapt.tokenizer.review import Guard, Review, review

ROUNDS = 8
"""Rounds of proposing; later drops are not refilled."""
SPARE = 3
"""In later rounds this many times what is still wanted is proposed, as some of it will be dropped again."""


@dataclass
class Selection:
    """The chosen tokens, in order, and what was found on the way."""

    tokens: list[str] = field(default_factory=list)
    fires: Counter[str] = field(default_factory=Counter)
    """Token -> how often it fires in the training text."""
    report: dict[str, Any] = field(default_factory=dict)


def select(method: Method, request: Request, guard: Guard) -> Selection:
    """Choose up to ``request.asked`` tokens, all reachable, that leave the guard text as it may be left."""
    kept: list[str] = []
    unreachable: set[str] = set()
    disturbing: set[str] = set()
    first: Review | None = None
    rounds = 0
    while True:
        proposed: list[str] = []
        wanted = request.asked - len(kept)
        if rounds < ROUNDS and wanted > 0:
            rounds += 1
            proposed = method(_without(request, unreachable | disturbing), kept, wanted * (1 if rounds == 1 else SPARE))
        kept = kept + proposed
        found = review(request.base, kept, request.words, guard)
        first = first or found
        worst = found.disturbing
        if worst and rounds > 1:  # the guard has no room left: what is proposed instead must leave it alone
            worst = worst | (found.touching & set(proposed))
        dropped = found.unreachable | worst
        unreachable |= found.unreachable
        disturbing |= worst
        if dropped:
            kept = [token for token in kept if token not in dropped]
        elif len(kept) > request.asked:
            kept = kept[: request.asked]
        elif not proposed or len(kept) == request.asked:
            break
    report = {
        "asked": request.asked,
        "added": len(kept),
        "rounds": rounds,
        "unreachable": {"found": len(unreachable), "dropped": len(unreachable), "left": len(found.unreachable)},
        "guard": {
            "tokens": found.guard_tokens,
            "changed_before": first.guard_changed,
            "changed_after": found.guard_changed,
            "allowed_share": guard.share,
            "dropped": len(disturbing),
        },
    }
    return Selection(kept, found.fires, report)


def _without(request: Request, banned: set[str]) -> Request:
    """The same request, less the banned tokens."""
    return replace(request, allow=lambda token: token not in banned and request.allow(token))
