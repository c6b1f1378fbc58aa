"""Which checkpoints of a folder are whole. Needs file names and sizes alone."""

import json
import math
from pathlib import Path

FILES = "files.json"
"""Beside a training's checkpoint, written last: the size of each of its files."""

BEST = "best.json"
"""In a folder of checkpoints: which one scored best, and how."""


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints ``iter_*`` of a folder, oldest first; one that is still being saved is ``*.partial``."""
    return sorted(path.parent for path in folder.glob("iter_*/.metadata") if path.parent.name[5:].isdigit())


def step_of(checkpoint: Path) -> int:
    """The steps that had been made when a checkpoint was saved, by its name."""
    return int(checkpoint.name.removeprefix("iter_"))


def best(folder: Path) -> tuple[str, float]:
    """The checkpoint that scored best on held-out text, and its bits per byte; without one, no name and infinity."""
    path = folder / BEST
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    is_there = found and (folder / found["name"]).is_dir()
    return (found["name"], found["bits_per_byte"]) if is_there else ("", math.inf)


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint's files: one that is missing or has another size. Empty if nothing is."""
    path = checkpoint / FILES
    if not path.is_file():
        return f"no {FILES}"
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        sizes = None
    if not isinstance(sizes, dict):
        return f"{FILES} is not whole"
    for name, size in sizes.items():
        file = checkpoint / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{name} is missing" if found is None else f"{name} has {found} of {size} bytes"
    return ""
