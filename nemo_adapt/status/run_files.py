"""Read-only access to the files in a run's folder.

The run may be writing at the same moment, or may have been interrupted: files that are missing or incomplete count as
missing.
"""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.checkpoint.folders import METADATA, complete
from nemo_adapt.checkpoint.integrity import damage
from nemo_adapt.training_files import Record

CLOCK_SKEW = 60.0
"""Seconds by which a file system's clock may differ from this machine's."""


def read(path: Path) -> Record:
    """Return the JSON object in a file; an empty one if the file is missing or incomplete."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def written(path: Path) -> float:
    """Return a file's modification time (seconds since 1970); 0 if it does not exist."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def last_written(folder: Path) -> float:
    """Return the time of the last write in a folder (seconds since 1970); 0 if it does not exist.

    Of a checkpoint that is there, whose thousands of files no longer change, only the folder itself is asked.
    """
    found = [written(folder)]
    for place, _, files in os.walk(folder):
        found += [written(Path(place) / name) for name in ([""] if METADATA in files else files)]
    return max(found)


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest intact checkpoint, and a message for each newer one that is damaged."""
    damaged: list[str] = []
    for place in reversed(complete(folder)):
        try:
            wrong = damage(place)
        except OSError as error:  # deleted in the meantime
            wrong = str(error)
        if not wrong:
            return place, damaged
        damaged.append(f"{place.name} is damaged ({wrong}): passed over")
    return None, damaged


def is_alive(owner: Mapping[str, Any], since: float) -> bool | None:
    """Return whether the process ``owner`` (``host``, ``pid``) is alive; ``None`` if it belongs to another host.

    ``since``: a time at which it existed (seconds since 1970), by which a reused pid is recognized.
    """
    import psutil  # type: ignore[import-untyped]

    pid = owner.get("pid")
    if owner.get("host") != platform.node() or not isinstance(pid, int) or pid < 1:
        return None
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() <= since + CLOCK_SKEW  # else the pid was reused
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
