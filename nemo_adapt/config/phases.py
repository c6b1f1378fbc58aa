"""The training phases of a configuration: the recipe's, and the one that a strategy adds before them.

Most strategies only initialize rows. ``learned`` and ``warm_start`` first train rows of the tables alone
(arXiv 2406.14670: Learned-Emb trains the embeddings on a tenth of the data first; its warm start trains them on 10M
tokens at a learning rate of 1e-3). They take their steps from the recipe's first phase, so that all strategies see the
same data and number of steps.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from nemo_adapt.config import Config, PhaseConfig, TrainConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import OUTPUT
from nemo_adapt.registry import nearest

NEW_ROWS, EMBEDDINGS, ALL = "new_rows", "embeddings", "all"
KINDS = (NEW_ROWS, EMBEDDINGS, OUTPUT, ALL)
"""What a phase may train besides layers: the new rows of both tables, both tables, the output layer, everything."""
WITH_FACTOR = (EMBEDDINGS, OUTPUT)
"""Of these, what may have a factor of the learning rate."""
LAYERS = re.compile(r"layers:(\d+)(?:-(\d+))?")
MOST_LAYERS = 10_000
"""Layers of a longer range are left out: no model has that many, so ``layout.check_phases`` refuses it all the same."""
BUDGETS = ("steps", "tokens", "bytes")
SCHEDULE_NAMES = {"wsd": "WSD"}
"""Megatron's names of schedules where they differ from ours."""
LEARNED_FIRST = {"learned": NEW_ROWS, "warm_start": EMBEDDINGS}
"""Strategy -> what it trains alone before the recipe's phases."""


@dataclass(frozen=True)
class Trained:
    """What a phase trains."""

    kinds: frozenset[str]
    """Members of ``KINDS``."""
    layers: frozenset[int]
    """Numbers of complete layers, counted from 0."""


def trained(phase: PhaseConfig) -> Trained:
    """Parse ``phase.train``; ``UserError`` for unknown, repeated or overlapping parts."""
    what = _parsed(phase.train, "train", KINDS)
    if (ALL in what.kinds and len(what.kinds) + len(what.layers) > 1) or {NEW_ROWS, EMBEDDINGS} <= what.kinds:
        raise UserError(f"train.phases: train={phase.train!r} names a part twice")
    if {NEW_ROWS, OUTPUT} <= what.kinds:
        raise UserError(f"train.phases: train={phase.train!r}: the output layer's new rows are part of it")
    return what


def lr_factors(phase: PhaseConfig) -> list[tuple[Trained, float]]:
    """Return what ``phase.lr_factors`` names, in order, each with its factor; ``UserError`` for what has none."""
    ours, found = trained(phase), []
    for part, factor in phase.lr_factors.items():
        what = _parsed(part, "lr_factors", WITH_FACTOR)
        if not 0 < factor < math.inf:  # also rejects NaN
            raise UserError(f"train.phases: lr_factors: {part}: {factor} must be above 0; train names what is trained")
        # Each kind trains rows of a table, if only new ones.
        if not (ALL in ours.kinds or (what.kinds and ours.kinds) or what.layers & ours.layers):
            raise UserError(f"train.phases: lr_factors: {part} is not trained by train={phase.train}")
        found.append((what, factor))
    return found


def _parsed(text: str, key: str, known: Sequence[str]) -> Trained:
    """Parse what the phase's ``key`` names, joined by ``+``: layers, and ``known`` kinds; ``UserError`` for others."""
    kinds, layers = set(), set()
    for part in text.split("+"):
        if span := LAYERS.fullmatch(part):
            first, last = int(span[1]), int(span[2] or span[1])
            layers |= set(range(first, min(last, first + MOST_LAYERS) + 1))
            if last < first:
                raise UserError(f"train.phases: {key}={text!r} goes from layer {first} to {last}")
        elif part in known:
            kinds.add(part)
        else:
            listed = ", ".join((*known, "layers:FIRST-LAST"))
            raise UserError(
                f"train.phases: unknown {key}={part!r}.{nearest(part, known)} Known: {listed}, and several joined by +"
            )
    return Trained(frozenset(kinds), frozenset(layers))


def own_phases(train: TrainConfig, bytes_per_token: float = 0.0) -> list[PhaseConfig]:
    """Return the recipe's own phases, in order, each with its budget in ``steps``.

    ``bytes_per_token`` of the training mix converts bytes to tokens; where it is not known yet (0), a phase with a
    budget in bytes counts as one step. ``UserError`` for an unknown kind, a wrong budget and a wrong learning rate.
    """
    if not train.phases:
        raise UserError("train.phases is empty: give at least one phase, train.phases=[{train: all, steps: 1000}]")
    for phase in train.phases:
        trained(phase)
        if not 0 < phase.lr < math.inf:  # also rejects NaN
            raise UserError(f"train.phases: lr={phase.lr} must be above 0")
        lr_factors(phase)
    return [_in_steps(phase, train, bytes_per_token) for phase in train.phases]


def phases(config: Config, bytes_per_token: float = 0.0) -> list[PhaseConfig]:
    """Return all phases: the strategy's, if any, then ``own_phases``; ``UserError`` for too few steps."""
    given = own_phases(config.train, bytes_per_token)
    resize = config.resize
    first = {LEARNED_FIRST[name] for name in (resize.input, resize.output) if name in LEARNED_FIRST}
    if not first:
        return given
    if len(first) > 1:
        raise UserError(f"resize.input={resize.input} and resize.output={resize.output} train different rows first")
    steps = max(1, round(resize.learned_share * total(given)))
    rest = given[0].steps - steps
    if rest < 1 and (bytes_per_token or not config.train.phases[0].bytes):
        raise UserError(
            f"resize.learned_share={resize.learned_share} is {steps} of {total(given)} steps, which leaves no step of "
            f"the first phase: {rest + steps}; make that phase longer or the share smaller"
        )
    learned = PhaseConfig(first.pop(), steps, resize.learned_lr)
    return [learned, replace(given[0], steps=rest), *given[1:]]


def total(plan: Sequence[PhaseConfig]) -> int:
    """Return the number of steps of all phases."""
    return sum(phase.steps for phase in plan)


def ends(plan: Sequence[PhaseConfig]) -> list[int]:
    """Return, by phase, the number of steps done when it ends."""
    return list(accumulate(phase.steps for phase in plan))


def warmup_steps(phase: PhaseConfig, train: TrainConfig) -> int:
    """Return the steps of a phase in which the learning rate rises; its last step is at the peak or after it."""
    return min(phase.steps - 1, round(train.warmup_share * phase.steps))


def decay_steps(phase: PhaseConfig, train: TrainConfig) -> int:
    """Return the last steps of a phase in which the schedule ``wsd`` decays."""
    return max(1, round(train.decay_share * phase.steps))


def shortened(plan: Sequence[PhaseConfig], steps: int) -> list[PhaseConfig]:
    """Return the phases scaled to ``steps`` steps in total; a phase that gets none is left out."""
    marks = [0, *(round(end * steps / total(plan)) for end in ends(plan))]
    spans = [stop - start for start, stop in pairwise(marks)]
    return [replace(phase, steps=span) for phase, span in zip(plan, spans, strict=True) if span]


def _in_steps(phase: PhaseConfig, train: TrainConfig, bytes_per_token: float) -> PhaseConfig:
    """Return the phase with its budget in steps, rounded up."""
    budgets = {name: getattr(phase, name) for name in BUDGETS if getattr(phase, name)}
    if len(budgets) != 1 or min(budgets.values()) < 1:
        said = ", ".join(f"{name}={value}" for name, value in budgets.items()) or "none of them"
        raise UserError(f"train.phases: a phase needs one of steps, tokens and bytes, of at least 1: it has {said}")
    step = train.global_batch * train.seq_length
    if phase.tokens:
        return replace(phase, steps=-(-phase.tokens // step), tokens=0)
    if phase.bytes:
        tokens = phase.bytes / bytes_per_token if bytes_per_token else 1
        return replace(phase, steps=max(1, -int(-tokens // step)), bytes=0)
    return phase
