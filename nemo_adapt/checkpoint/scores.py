"""The best checkpoint of a training: a file in it has its score on held-out text."""

import json
import math
from pathlib import Path
from typing import Any

from nemo_adapt.checkpoint.folders import complete
from nemo_adapt.errors import UserError

LAST_ONE, BEST_ONE = "last", "best"
"""Values of ``export.checkpoint``: which of them is exported."""
SCORE = "score.json"
"""Next to the files of a checkpoint that was the best of its training when it was saved: its score."""
TRAINED_ON = ("tokens", "bytes")
"""Keys in it: the text that the checkpoint was trained on."""


def check_which(which: str) -> None:
    """Raise ``UserError`` for an unknown value of ``export.checkpoint``."""
    if which not in (LAST_ONE, BEST_ONE):
        raise UserError(f"export.checkpoint={which!r} is not one of {LAST_ONE}, {BEST_ONE}")


def score_of(checkpoint: Path) -> dict[str, Any]:
    """Return ``score.json``: ``bits_per_byte``, the text it was ``chosen_by``, and how much the checkpoint was
    ``TRAINED_ON``; empty if there is none."""
    try:
        found = json.loads((checkpoint / SCORE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def best(folder: Path) -> tuple[str, float]:
    """Return name and bits per byte of the checkpoint with the best held-out score; without one, "" and infinity."""
    scored = {place.name: score_of(place).get("bits_per_byte", math.inf) for place in complete(folder)}
    name = min(scored, key=scored.__getitem__, default="")
    return (name, scored[name]) if scored.get(name, math.inf) < math.inf else ("", math.inf)
