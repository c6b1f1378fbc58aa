"""How far the cells of a study are, as their folders say."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.status.jobs import end_of
from nemo_adapt.status.stages import FINISHED, NOT_YET
from nemo_adapt.status.traces import last_written, read
from nemo_adapt.study.cells import cells
from nemo_adapt.study.work import CELLS, DONE, LOG, failure

BEGUN, FAILED = "begun", "failed"
SAID_WIDTH = 80
"""Columns of a log's last line."""


@dataclass(frozen=True)
class CellState:
    """One run of a study."""

    cell: str
    state: str
    """``begun`` is one that runs, or was interrupted."""
    said: str = ""
    """Why it has failed, or the last line of its log."""
    at: float | None = None
    """When something was last written (seconds since 1970)."""


def is_study(root: Path, config: Config) -> bool:
    """Whether a folder is a study's, and not that of a cell."""
    return bool(config.study.axes) and ((root / CELLS).is_dir() or (root / "launch" / CELLS).is_dir())


def cell_states(root: Path, config: Config) -> list[CellState]:
    """All cells, in the order in which they are run."""
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
    """How many there are in each state."""
    counts = Counter(state.state for state in found)
    parts = [f"{counts[state]} {state}" for state in (FAILED, BEGUN, NOT_YET) if counts[state]]
    return ", ".join([f"{counts[FINISHED]} of {len(found)} cells {FINISHED}", *parts])
