"""The training phases of a configuration: the recipe's, and the one that a strategy puts before them.

Most strategies only make rows. ``learned`` and ``warm_start`` also train the tables alone before the rest is trained
(arXiv 2406.14670: Learned-Emb trains the embeddings on a tenth of the data first; its warm start trains them on 10M
tokens at a learning rate of 1e-3). They take their steps from the recipe's first phase, so that all strategies see the
same data and number of steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

NEW_ROWS, EMBEDDINGS, ALL = "new_rows", "embeddings", "all"
KINDS = (NEW_ROWS, EMBEDDINGS, ALL)
"""What a phase may train: the new rows of both tables, both tables, everything."""
LEARNED_FIRST = {"learned": NEW_ROWS, "warm_start": EMBEDDINGS}
"""Strategy -> what it trains alone before the recipe's phases."""


def phases(config: Config) -> list[PhaseConfig]:
    """All phases of a training, in order; ``UserError`` for an unknown kind and for too few steps."""
    given = config.train.phases
    if not given:
        raise UserError("train.phases is empty: give at least one phase, train.phases=[{train: all, steps: 1000}]")
    for phase in given:
        if phase.train not in KINDS:
            known = ", ".join(KINDS)
            raise UserError(f"train.phases: unknown train={phase.train!r}.{nearest(phase.train, KINDS)} Known: {known}")
        if phase.steps < 1 or phase.lr <= 0:
            raise UserError(f"train.phases: steps={phase.steps} must be at least 1, lr={phase.lr} above 0")
    resize = config.resize
    first = {LEARNED_FIRST[name] for name in (resize.input, resize.output) if name in LEARNED_FIRST}
    if not first:
        return list(given)
    if len(first) > 1:
        raise UserError(f"resize.input={resize.input} and resize.output={resize.output} train different rows first")
    steps = max(1, round(resize.learned_share * total(given)))
    rest = given[0].steps - steps
    if rest < 1:
        raise UserError(
            f"resize.learned_share={resize.learned_share} leaves no step of the first phase: {rest + steps}"
        )
    learned = PhaseConfig(first.pop(), steps, resize.learned_lr)
    return [learned, replace(given[0], steps=rest), *given[1:]]


def total(plan: Sequence[PhaseConfig]) -> int:
    """Steps of all phases."""
    return sum(phase.steps for phase in plan)


def ends(plan: Sequence[PhaseConfig]) -> list[int]:
    """By phase: the number of steps that are done when it ends."""
    return list(accumulate(phase.steps for phase in plan))


def shortened(plan: Sequence[PhaseConfig], steps: int) -> list[PhaseConfig]:
    """The same phases in ``steps`` steps, in proportion; a phase that gets none is left out."""
    marks = [0, *(round(end * steps / total(plan)) for end in ends(plan))]
    spans = [stop - start for start, stop in pairwise(marks)]
    return [replace(phase, steps=span) for phase, span in zip(plan, spans, strict=True) if span]
