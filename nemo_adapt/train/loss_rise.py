"""A loss that rises and stays up: the training has diverged, or has met damaged text. It ends here, not after days.

One step's loss is noisy, so that means of a few steps are compared with the lowest such mean of the phase.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nemo_adapt.checkpoint.folders import complete, step_of
from nemo_adapt.errors import UserError

LEVEL = "loss_level"
"""Key in a training's progress, which a checkpoint keeps, so that a resumed training stops at the same step."""
STEPS = 10
"""Steps in a mean: so few that in most trainings a checkpoint from before the rise is still kept."""
NO_LEVEL: Mapping[str, Any] = {"phase": 0, "recent": [], "lowest": math.inf, "lowest_step": 0}


def updated(level: Mapping[str, Any], step: int, phase: int, loss: float | None) -> dict[str, Any]:
    """Return the level after ``step``, given that before it: the last losses of the ``phase``, its lowest mean of
    ``STEPS`` losses (in nats per label) and the step at which that ended. A step without labels changes nothing."""
    if loss is None:
        return dict(level)
    if level["phase"] != phase:
        level = NO_LEVEL
    recent = [*level["recent"], loss][-STEPS:]
    lowest = (level["lowest"], level["lowest_step"])
    if len(recent) == STEPS:
        lowest = min(lowest, (fmean(recent), step))
    return {"phase": phase, "recent": recent, "lowest": lowest[0], "lowest_step": lowest[1]}


def has_risen(level: Mapping[str, Any], most: float) -> bool:
    """Return whether the last ``STEPS`` losses are on average more than ``most`` above the lowest mean; 0: never."""
    return most > 0 and len(level["recent"]) == STEPS and fmean(level["recent"]) > level["lowest"] + most


def explain(
    level: Mapping[str, Any],
    step: int,
    samples: int,
    lr: float,
    checkpoints: Path,
    write: Callable[[Sequence[int]], str],
) -> UserError:
    """Return the error that ends the training after ``step``; ``samples``: those of a step. ``write`` writes the text
    of samples, given by number, the most suspect first, and returns where it is. A collective if ``write`` is one."""
    first = step - STEPS + 1
    by_loss = sorted(range(STEPS), key=level["recent"].__getitem__, reverse=True)
    suspects = [number for at in by_loss for number in range((first + at - 1) * samples, (first + at) * samples)]
    worst = by_loss[0] + first
    before = [place.name for place in complete(checkpoints) if step_of(place) <= level["lowest_step"]]
    kept = f"{before[-1]} is from before it" if before else "no checkpoint from before it is kept (train.keep)"
    low, now, most = level["lowest"], fmean(level["recent"]), max(level["recent"])
    of_step = f"{most:.3f}; samples {(worst - 1) * samples} to {worst * samples - 1}"
    return UserError(
        f"train: the loss rose from {low:.3f} (lowest mean of {STEPS} steps, at step {level['lowest_step']}) to "
        f"{now:.3f} (steps {first} to {step}; phase {level['phase']}, lr {lr:.3g}), most at step {worst} ({of_step}); "
        f"{kept}. Look at the text of these steps ({write(suspects)}), or train under another run.name with a lower "
        "learning rate or a longer warm-up; train.max_loss_rise=0 goes on in spite of it"
    )
