"""A lock file, so that one process at a time builds a folder."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from nemo_adapt.errors import UserError
from nemo_adapt.machine.starts import is_earlier, this_start

NAMELESS = ("", "..")
"""Names of paths whose last part does not name a folder: ``.``, ``/`` and ``..``."""
RETRY_SECONDS = 0.5
"""Seconds between attempts to take a lock that another process holds."""


@contextlib.contextmanager
def folder_lock(out: Path, fenced: bool = False, waits: bool = False) -> Iterator[None]:
    """Context: hold the lock of the folder ``out``; if another process has it, wait (``waits``) or raise ``UserError``.

    The lock ends with the process that holds it, however that ends. File systems without locks are not protected. If
    the holder is an earlier start of this Slurm job, left over on a node that Slurm has lost, the lock is taken from it
    (``fenced``) or waited for.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = lock_of(out)
    if fenced and is_earlier(holder(path) or {}, this_start()):
        path.unlink(missing_ok=True)
    while (held := _try_lock(path)) is None:
        other = holder(path)
        if other is None:  # released in the meantime
            continue
        if not (waits or is_earlier(other, this_start())):
            raise UserError(
                f"{out} is being made by another process: wait until that has ended, or choose another folder"
            )
        time.sleep(RETRY_SECONDS)
    with held:
        held.truncate(0)
        held.write(json.dumps(this_start()))
        held.flush()
        try:
            yield
        finally:
            if _is_at(held, path):
                path.unlink(missing_ok=True)


def lock_of(out: Path) -> Path:
    """Return the path of the lock file of the folder ``out``, which exists while the folder is being made."""
    named = out if out.name not in NAMELESS else out.resolve()
    return named.with_name(f".{named.name or 'root'}.lock")


def _try_lock(path: Path) -> TextIO | None:
    """Return the lock file, open and locked by us; ``None`` while another process holds it. ``UserError`` where one of
    another user may not be opened."""
    try:
        held = path.open("a+", encoding="utf-8")
    except PermissionError:
        if (other := holder(path)) is None:
            raise
        who = f"process {other.get('pid', '?')} on {other.get('host', '?')}"
        raise UserError(
            f"{path} is held by another user's {who}: if that has ended, delete the file, and check that you may "
            f"write to {path.parent}"
        ) from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    except OSError:
        pass
    if _is_at(held, path):
        return held
    held.close()  # released and deleted between our open and lock; another process may have created a new one
    return None


def _is_at(held: TextIO, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(held.fileno()), path.stat())


def holder(path: Path) -> dict[str, Any] | None:
    """Return the start (``starts.py``) that took a lock last, empty if unreadable; ``None`` without a lock file."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
