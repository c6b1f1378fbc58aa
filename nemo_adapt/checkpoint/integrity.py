"""Which checkpoints of a folder are complete and intact: by names and sizes of files, and contents of small ones."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.artifact import file_hash, write_json
from nemo_adapt.errors import UserError

METADATA = ".metadata"
COMMON = "common.pt"
"""The unsharded part."""
FILES = "files.json"
"""Written last, next to a checkpoint's files: the size of each, or the hash of a small one."""
TENSORS = "*.distcp"
SMALL = (METADATA, COMMON, "metadata.json")
"""Files besides those with the tensors that are needed to read the checkpoint."""

CHECKPOINTS = "checkpoints"
"""The folder of a training's checkpoints."""
LAST_ONE, BEST_ONE = "last", "best"
"""Values of ``export.checkpoint``: which of them is exported."""
SCORE = "score.json"
"""Next to the files of a checkpoint that was the best of its training when it was saved: its score."""


def complete(folder: Path) -> list[Path]:
    """Return the complete checkpoints ``iter_*`` of a folder, oldest first; unfinished ones are ``*.partial``."""
    return sorted(path.parent for path in folder.glob(f"iter_*/{METADATA}") if path.parent.name[5:].isdigit())


def step_of(checkpoint: Path) -> int:
    """Return the number of steps completed when a checkpoint was saved, from its name."""
    return int(checkpoint.name.removeprefix("iter_"))


def check_which(which: str) -> None:
    """Raise ``UserError`` for an unknown value of ``export.checkpoint``."""
    if which not in (LAST_ONE, BEST_ONE):
        raise UserError(f"export.checkpoint={which!r} is not one of {LAST_ONE}, {BEST_ONE}")


def score_of(checkpoint: Path) -> dict[str, Any]:
    """Return ``score.json``: ``bits_per_byte``, and the text it was ``chosen_by``; empty if there is none."""
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


def sizes_of(checkpoint: Path, files: str = TENSORS) -> dict[str, int]:
    """Return the sizes of a checkpoint's files with tensors; ``files`` is a pattern of their names."""
    return {file.name: file.stat().st_size for file in sorted(checkpoint.glob(files))}


def seal(checkpoint: Path, sizes: Mapping[str, int]) -> None:
    """Record the files of a complete checkpoint: ``sizes`` of those with tensors, hashes of the small ones."""
    write_json(checkpoint / FILES, {**sizes, **{name: file_hash(checkpoint / name) for name in SMALL}})


def repair_advice(folder: Path) -> str:
    """Return advice for a damaged converted checkpoint, naming its real path: ``folder`` may link to a shared one."""
    place = folder.resolve() if folder.is_symlink() else folder
    return f"delete {place}, and nemo-adapt convert or run makes it again"


def damage(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint's files; empty if nothing is.

    One may be missing, or have another size, or, if its hash is known, other contents.
    """
    path = checkpoint / FILES
    if not path.is_file():
        return f"no {FILES}"
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        sizes = None
    if not isinstance(sizes, dict):
        return f"{FILES} is damaged"
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
