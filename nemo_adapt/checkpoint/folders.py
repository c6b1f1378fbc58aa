"""Folders of checkpoints: which are complete, and which one is meant, whoever wrote them.

Trainings of Megatron-LM and Megatron-Bridge have a folder ``iter_0001000`` for each checkpoint (or ``release``), and
a file beside them that names the newest (megatron/training/checkpointing.py;
megatron/bridge/training/utils/checkpoint_utils.py).
"""

from pathlib import Path

from nemo_adapt.errors import UserError

METADATA = ".metadata"
COMMON = "common.pt"
"""The unsharded part."""
CHECKPOINTS = "checkpoints"
"""The folder of a training's checkpoints."""
TRAIN = "train"
"""The folder of a run's training."""
TRACKER = "latest_checkpointed_iteration.txt"
RELEASE = "release"


def complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints ``iter_*`` of a folder, oldest first; unfinished ones are ``*.partial``."""
    return sorted(path.parent for path in folder.glob(f"iter_*/{METADATA}") if path.parent.name[5:].isdigit())


def checkpoint_name(step: int) -> str:
    """Return the name of the folder of the checkpoint after ``step`` steps."""
    return f"iter_{step:07d}"


def step_of(checkpoint: Path) -> int:
    """Return the number of steps completed when a checkpoint was saved, from its name."""
    return int(checkpoint.name.removeprefix("iter_"))


def checkpoint_in(folder: Path) -> Path:
    """Return ``folder`` itself if it is a checkpoint, else the one that its tracker file names, else its newest.

    ``UserError`` if there is none.
    """
    if (folder / METADATA).is_file():
        return folder
    if (folder / TRACKER).is_file():
        named = (folder / TRACKER).read_text(encoding="utf-8").strip()
        place = folder / (RELEASE if named == RELEASE else checkpoint_name(int(named)) if named.isdigit() else named)
        if place.parent == folder and (place / METADATA).is_file():
            return place
        raise UserError(f"{folder / TRACKER} names {named!r}, of which {folder} has no complete checkpoint")
    found = complete(folder)
    if not found:
        places = [place for place in (folder / CHECKPOINTS, folder / TRAIN / CHECKPOINTS) if complete(place)]
        advice = "".join(f"; give {place}, or one of those in it" for place in places)
        raise UserError(f"{folder} is not a complete Megatron checkpoint (no {METADATA} in it){advice}")
    return found[-1]
