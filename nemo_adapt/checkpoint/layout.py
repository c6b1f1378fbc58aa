"""Finding the checkpoint in a folder of checkpoints as Megatron-LM and Megatron-Bridge lay it out.

Their trainings have a folder ``iter_0001000`` for each checkpoint (or ``release``), and a file beside them that names
the newest (megatron/training/checkpointing.py; megatron/bridge/training/utils/checkpoint_utils.py).
"""

from pathlib import Path

from nemo_adapt.checkpoint.integrity import METADATA, complete
from nemo_adapt.errors import UserError

TRACKER = "latest_checkpointed_iteration.txt"
RELEASE = "release"


def checkpoint_in(folder: Path) -> Path:
    """Return ``folder`` itself if it is a checkpoint, else the one that its tracker file names, else its newest.

    ``UserError`` if there is none.
    """
    if (folder / METADATA).is_file():
        return folder
    if (folder / TRACKER).is_file():
        named = (folder / TRACKER).read_text(encoding="utf-8").strip()
        place = folder / (RELEASE if named == RELEASE else f"iter_{int(named):07d}" if named.isdigit() else named)
        if place.parent == folder and (place / METADATA).is_file():
            return place
        raise UserError(f"{folder / TRACKER} names {named!r}, of which {folder} has no complete checkpoint")
    found = complete(folder)
    if not found:
        raise UserError(f"{folder} is not a complete Megatron checkpoint (no {METADATA} in it)")
    return found[-1]
