"""One process at a time makes a folder."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from nemo_adapt.errors import UserError
from nemo_adapt.starts import is_earlier, this_start

LOOK_SECONDS = 0.5
"""Between looks whether another process has ended."""


@contextlib.contextmanager
def alone(out: Path, fenced: bool = False, waits: bool = False) -> Iterator[None]:
    """While it lasts no other process can make the folder ``out``; ``UserError`` if one is at it, unless ``waits``.

    The lock goes with the process that holds it, however that ends. File systems without locks are trusted. Where an
    earlier start of this Slurm job holds it, left over on a node that Slurm has lost: if ``fenced`` the lock is taken
    from it, else waited for.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    if fenced and is_earlier(_holder(path) or {}, this_start()):
        path.unlink(missing_ok=True)
    while (held := _taken(path)) is None:
        holder = _holder(path)
        if holder is None:  # given up since
            continue
        if not (waits or is_earlier(holder, this_start())):
            raise UserError(f"{out} is being made by another process: wait until it has ended, or name another")
        time.sleep(LOOK_SECONDS)
    with held:
        held.truncate(0)
        held.write(json.dumps(this_start()))
        held.flush()
        try:
            yield
        finally:
            if _is_at(held, path):
                path.unlink(missing_ok=True)


def _taken(path: Path) -> TextIO | None:
    """The lock's file, open and ours; ``None`` while it is another's."""
    held = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    except OSError:
        pass
    if _is_at(held, path):
        return held
    held.close()  # the file was given up between our opening and locking it, and may be another's now
    return None


def _is_at(held: TextIO, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(held.fileno()), path.stat())


def _holder(path: Path) -> dict[str, Any] | None:
    """The start that took a lock last, empty where that cannot be read; ``None`` for a lock that is not there."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
