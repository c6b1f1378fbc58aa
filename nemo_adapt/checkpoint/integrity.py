"""Whether a checkpoint is intact: by the sizes of its files, and the contents of small ones."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from nemo_adapt.checkpoint.folders import COMMON, METADATA
from nemo_adapt.files import file_hash, write_json

FILES = "files.json"
"""Written last, next to a checkpoint's files: the size of each, or the hash of a small one."""
TENSORS = "*.distcp"
OF_RANK = "__{rank}_{number}.distcp"
"""Names of the files that a rank writes, numbered from 0 (Megatron's filesystem_async.py)."""
SMALL = (METADATA, COMMON, "metadata.json")
"""Files besides those with the tensors that are needed to read the checkpoint."""


def sizes_of(checkpoint: Path) -> dict[str, int]:
    """Return the sizes of a checkpoint's files with tensors."""
    return {file.name: file.stat().st_size for file in sorted(checkpoint.glob(TENSORS))}


def sizes_of_rank(checkpoint: Path, rank: int) -> dict[str, int]:
    """Return the sizes of the files that a rank, the caller, has written.

    Without a list of the folder: that has the files of all ranks, and all would ask the file system for it at once.
    """
    sizes: dict[str, int] = {}
    while (file := checkpoint / OF_RANK.format(rank=rank, number=len(sizes))).is_file():
        sizes[file.name] = file.stat().st_size
    return sizes


def seal(checkpoint: Path, sizes: Mapping[str, int]) -> None:
    """Record the files of a complete checkpoint: ``sizes`` of those with tensors, hashes of the small ones."""
    write_json(checkpoint / FILES, {**sizes, **{name: file_hash(checkpoint / name) for name in SMALL}})


def writer(file: str) -> int:
    """Return the rank that has written a file with tensors, by its name; 0 for other names."""
    found = re.match(r"__(\d+)_", file)
    return int(found[1]) if found else 0


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
