"""Starts of a training in a row that made no progress, whose number is limited."""

import json
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.training_files import STARTS


def count_start(folder: Path, done: int, most: int, missing: str, advice: str) -> None:
    """Record a start that resumes at ``done``; ``UserError`` if the last ``most`` starts (0: no limit) did so too.

    ``done`` is ``step`` in the file. The error says what is ``missing`` after those starts, and gives ``advice``. For
    the first rank only.
    """
    path = folder / STARTS
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        before = {"step": -1, "starts": 0}
    starts = before["starts"] if before["step"] == done else 0
    if most and starts >= most:
        raise UserError(
            f"{folder}: {starts} starts in a row ended without {missing}: fix what stops them (see the log), or "
            f"{advice}; then delete {path}"
        )
    write_json(path, {"step": done, "starts": starts + 1})
