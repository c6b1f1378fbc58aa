"""States of a study's cells, read from their folders."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.status.jobs import end_of
from nemo_adapt.status.run_files import last_written, read
from nemo_adapt.status.stages import FINISHED, NOT_YET
from nemo_adapt.study.cells import cells
from nemo_adapt.study.work import CELLS, DONE, LOG, failure

BEGUN, FAILED = "begun", "failed"
SAID_WIDTH = 80
"""Characters shown of a log's last line."""


@dataclass(frozen=True)
class CellState:
    """The state of one cell, a run of a study."""

    cell: str
    state: str
    """``finished``, ``failed``, ``begun`` (running or interrupted) or ``not yet``."""
    said: str = ""
    """Why it failed, or the last line of its log."""
    at: float | None = None
    """Time of the last write to its folder, in seconds since 1970; only for ``begun``."""


def is_study(root: Path, config: Config) -> bool:
    """Return whether a folder is that of a study, not of one of its cells."""
    return bool(config.study.axes) and ((root / CELLS).is_dir() or (root / "launch" / CELLS).is_dir())


def cell_states(root: Path, config: Config) -> list[CellState]:
    """Return the states of all cells, in the order in which they are run."""
    return [_state(cell.name, root / CELLS / cell.name) for cell in cells(config.study)]


def _state(name: str, folder: Path) -> CellState:
    if read(folder / DONE):
        return CellState(name, FINISHED)
    if why := failure(folder).get("why"):
        return CellState(name, FAILED, str(why))
    if not (folder / LOG).is_file():
        return CellState(name, NOT_YET)
    said = ["", *end_of(folder / LOG)][-1]
    return CellState(name, BEGUN, said.strip()[-SAID_WIDTH:], last_written(folder))


def counted(found: list[CellState]) -> str:
    """Return the number of cells in each state, in words."""
    counts = Counter(state.state for state in found)
    parts = [f"{counts[state]} {state}" for state in (FAILED, BEGUN, NOT_YET) if counts[state]]
    return ", ".join([f"{counts[FINISHED]} of {len(found)} cells {FINISHED}", *parts])
