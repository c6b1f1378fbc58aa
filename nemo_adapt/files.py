"""Files: written whole or not at all, told apart by a hash, and read with errors that name them."""

import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError

WHOLE_FILE_BYTES = 64 << 20
"""Larger files are hashed by their size and evenly spaced samples instead of their full contents."""
SAMPLE_BYTES = 64 << 10
SAMPLES = 64
SETTLED_NS = 10_000_000_000
"""Nanoseconds after which another write to a file shows in its times: they are coarse, and clocks of servers differ."""
_hashes: dict[tuple[int, ...], str] = {}
"""State of a file -> its hash, of this process."""
BYTE_ORDER_MARK = "\ufeff"


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's size and contents; above 64 MiB, of its size and 64 samples of 64 KiB.

    A process reads a file once, unless it changes: commands ask for the same terabytes of text several times. Threads
    may call this at once.
    """
    state = _state(path)
    if known := _hashes.get(state):
        return known
    digest = _hash(path)
    # A file that was written just now may be written again within a tick of the file system's clock.
    if time.time_ns() - max(state[-2:]) > SETTLED_NS:
        _hashes[state] = digest
    return digest


def _state(path: Path) -> tuple[int, ...]:
    """Return what differs once a file has been written again; ``SETTLED_NS`` says when."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        if size <= WHOLE_FILE_BYTES:
            digest.update(stream.read())
        else:
            for sample in range(SAMPLES):
                stream.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()


def read_object(path: Path, remedy: str = "download it again") -> dict[str, Any]:
    """Return the object in a JSON file; ``UserError`` that names the file and the ``remedy`` if it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith(BYTE_ORDER_MARK):
            raise UserError(
                f"{path} begins with a byte order mark, with which transformers does not read it either: save it as "
                "UTF-8 without one"
            )
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: not valid JSON: {error}; {remedy}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: not a JSON object; {remedy}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the complete new one."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, default=str))


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old file or the complete new one. Processes on several nodes may write
    the same file at once."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())  # otherwise a power loss can leave the new name without the contents
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    finally:
        temporary.unlink(missing_ok=True)  # left over only where one of these failed


def sync(folder: Path) -> None:
    """Write a folder and all files in it through to the disk, so that a power loss leaves them whole."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            sync_one(path)


def sync_one(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
