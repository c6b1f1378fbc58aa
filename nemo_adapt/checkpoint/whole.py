"""Which checkpoints of a folder are whole. Needs the names and sizes of files, and reads the small ones."""

import json
import math
from pathlib import Path
from typing import Any

from nemo_adapt.artifact import file_hash, write_json
from nemo_adapt.errors import UserError

METADATA = ".metadata"
COMMON = "common.pt"
"""What is not sharded."""
FILES = "files.json"
"""Beside a checkpoint's files, written after them: the size of each, or the hash of a small one."""
TENSORS = "*.distcp"
SMALL = (METADATA, COMMON, "metadata.json")
"""Files beside those with the tensors, without which the checkpoint cannot be read."""

CHECKPOINTS = "checkpoints"
"""A training's folder of them."""
LAST_ONE, BEST_ONE = "last", "best"
"""Which of them is exported."""
SCORE = "score.json"
"""Beside the files of a checkpoint that was the best of its training when it was saved: how it scored."""


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints ``iter_*`` of a folder, oldest first; one that is still being saved is ``*.partial``."""
    return sorted(path.parent for path in folder.glob(f"iter_*/{METADATA}") if path.parent.name[5:].isdigit())


def step_of(checkpoint: Path) -> int:
    """The steps that had been made when a checkpoint was saved, by its name."""
    return int(checkpoint.name.removeprefix("iter_"))


def check_which(which: str) -> None:
    """``UserError`` for a choice of ``export.checkpoint`` that there is not."""
    if which not in (LAST_ONE, BEST_ONE):
        raise UserError(f"export.checkpoint={which!r} is not one of {LAST_ONE}, {BEST_ONE}")


def score_of(checkpoint: Path) -> dict[str, Any]:
    """What ``score.json`` says: ``bits_per_byte``, and what text ``chosen_by`` they are; empty where it has none."""
    try:
        found = json.loads((checkpoint / SCORE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def best(folder: Path) -> tuple[str, float]:
    """The checkpoint that scored best on held-out text, and its bits per byte; without one, no name and infinity."""
    scored = {place.name: score_of(place).get("bits_per_byte", math.inf) for place in complete(folder)}
    name = min(scored, key=scored.__getitem__, default="")
    return (name, scored[name]) if scored.get(name, math.inf) < math.inf else ("", math.inf)


def seal(checkpoint: Path) -> None:
    """Write down the files of a checkpoint as they are now: sizes of those with tensors, hashes of the small ones."""
    sizes = {file.name: file.stat().st_size for file in sorted(checkpoint.glob(TENSORS))}
    write_json(checkpoint / FILES, {**sizes, **{name: file_hash(checkpoint / name) for name in SMALL}})


def made_again(folder: Path) -> str:
    """What to do about a converted checkpoint that is damaged; runs may share the folder."""
    place = folder.resolve() if folder.is_symlink() else folder
    return f"delete {place}, and nemo-adapt convert or run makes it again"


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint's files: one that is missing, or has another size, or, where its hash is known,
    other contents. Empty if nothing is."""
    path = checkpoint / FILES
    if not path.is_file():
        return f"no {FILES}"
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        sizes = None
    if not isinstance(sizes, dict):
        return f"{FILES} is not whole"
    for name, known in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if isinstance(known, str):
            if file_hash(file) != known:
                return f"{name} is not what was written"
        elif file.stat().st_size != known:
            return f"{name} has {file.stat().st_size} of {known} bytes"
    return ""
