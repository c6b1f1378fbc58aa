"""Records of a training: the lines of metrics.jsonl and held_out.jsonl, which may end in the middle of one."""

import json
import os
from pathlib import Path
from typing import Any

TAIL_BYTES = 64 << 10
"""Bytes read from the end of a long metrics.jsonl: more than a hundred records."""
Record = dict[str, Any]


def records(path: Path, whole: bool = False) -> list[Record]:
    """Return the records (objects with a ``step``) of a .jsonl file; incomplete lines are skipped.

    ``whole``: read all of the file, not only the last ``TAIL_BYTES``.
    """
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
