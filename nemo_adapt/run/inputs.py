"""What a stage reads: named files and folders, and the hashes that tell their contents."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from nemo_adapt.files import file_hash
from nemo_adapt.run.manifest import read_manifest

NOT_READ = (
    *("readme*", "license*", "licence*", "notice*", "use_policy*", "*.md", "*.pdf"),
    *("*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp"),
)
"""Names, in small letters, of files in a model's or tokenizer's folder that no stage reads."""
HASHING_THREADS = 16
"""Threads that hash the files of an input: a network file system answers many requests at once."""

Inputs = Mapping[str, list[Path]]
"""Inputs of a stage: name -> files or folders. Some names are ``GROUP.NAME``, with one file or folder each."""
HashOf = Callable[[Path], str]
"""``input_hash``, or a version of it that caches its results."""


def of_group(inputs: Inputs, group: str) -> dict[str, Path]:
    """Return NAME -> its file or folder, of the inputs that are called ``GROUP.NAME``."""
    return {name.partition(".")[2]: paths[0] for name, paths in inputs.items() if name.partition(".")[0] == group}


def input_hash(path: Path) -> str:
    """Return the hash of a file, of a finished stage folder (its fingerprint), or of the files of any other folder.

    Left out are files that no stage reads, so that a downloaded model stays the same model with them: ``NOT_READ``, and
    all that is hidden, as a download's ``.cache``, except a checkpoint's ``.metadata``.
    """
    if path.is_file():
        return file_hash(path)
    if ours := read_manifest(path):
        return str(ours["fingerprint"])
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if _may_be_read(name) and file.is_file():
            digest.update(f"{name}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def _may_be_read(name: Path) -> bool:
    hidden = any(part.startswith(".") and part != ".metadata" for part in name.parts)
    return not hidden and not any(fnmatchcase(name.name.lower(), pattern) for pattern in NOT_READ)


def hashes(inputs: Inputs, hash_of: HashOf = input_hash) -> dict[str, dict[str, str]]:
    """Return name -> path -> hash of all ``inputs``. Threads call ``hash_of``."""
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        return {key: dict(zip(map(str, paths), pool.map(hash_of, paths), strict=True)) for key, paths in inputs.items()}
