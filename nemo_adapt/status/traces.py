"""What lies in a run's folder, read and never changed.

The folder may be written to at this very moment, or have been left half-written: a file that is not there or not whole
counts as not there.
"""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.checkpoint.whole import complete, damage

TAIL_BYTES = 64 << 10
"""Of a long metrics.jsonl the end is read: more than a hundred records."""
CLOCKS_APART = 60.0
"""Seconds by which the clock of a file system may differ from ours."""
Record = dict[str, Any]


def read(path: Path) -> Record:
    """A JSON object, or an empty one where the file is not there or not whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def records(path: Path, whole: bool = False) -> list[Record]:
    """The records (with their ``step``) of a .jsonl file, or of its end; lines that are not whole are left out."""
    try:
        with path.open("rb") as stream:
            start = 0 if whole else max(0, stream.seek(0, os.SEEK_END) - TAIL_BYTES)
            stream.seek(start)
            lines = stream.read().splitlines()[1 if start else 0 :]
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            found.append(record)
    return found


def written(path: Path) -> float:
    """When a file was written (seconds since 1970); 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def last_written(folder: Path) -> float:
    """When something in a folder was last written."""
    found = [written(folder)]
    for place, _, files in os.walk(folder):
        found += [written(Path(place) / name) for name in files]
    return max(found)


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and a line for each newer one that is damaged."""
    damaged: list[str] = []
    for place in reversed(complete(folder)):
        try:
            wrong = damage(place)
        except OSError as error:  # deleted under us
            wrong = str(error)
        if not wrong:
            return place, damaged
        damaged.append(f"{place.name} is damaged ({wrong}): passed over")
    return None, damaged


def is_alive(owner: Mapping[str, Any], since: float) -> bool | None:
    """Whether the process of ``owner`` runs, which was there at ``since``; ``None`` where this host cannot tell."""
    import psutil  # type: ignore[import-untyped]

    pid = owner.get("pid")
    if owner.get("host") != platform.node() or not isinstance(pid, int) or pid < 1:
        return None
    try:
        process = psutil.Process(pid)
        is_same = process.create_time() <= since + CLOCKS_APART  # else its number was given to another
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
