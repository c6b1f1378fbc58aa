"""Starts of a training in a row that made no progress, whose number is limited."""

import json
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.training_files import STARTS


def count_start(folder: Path, done: int, most: int, missing: str, advice: str) -> None:
    """Record a start that resumes at ``done``; ``UserError`` if the last ``most`` starts (0: no limit) did so too.

    ``done`` is ``step`` in the file. The error says what is ``missing`` after those starts, and gives ``advice``. For
    the first rank only.
    """
    path, before = folder / STARTS, _recorded(folder)
    starts = before["starts"] if before["step"] == done else 0
    if most and starts >= most:
        raise UserError(
            f"{folder}: {starts} starts in a row ended without {missing}: fix what stops them (see the log), or "
            f"{advice}; then delete {path}"
        )
    write_json(path, {"step": done, "starts": starts + 1})


def take_back_start(folder: Path, done: int) -> None:
    """Take this start, which resumed at ``done``, out of the record: it was asked to stop before it could save. For the
    first rank only."""
    before = _recorded(folder)
    if before["step"] == done:  # starts after the last step are not recorded
        write_json(folder / STARTS, {"step": done, "starts": max(0, before["starts"] - 1)})


def _recorded(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / STARTS).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {"step": -1, "starts": 0}
