"""The files in a training's folder that other stages and commands read: their names, and the lines of its records."""

import json
import os
from pathlib import Path
from typing import Any

METRICS, HELD_OUT = "metrics.jsonl", "held_out.jsonl"
"""Records by step of the training itself, and of the scores of held-out text."""
OWNER, STARTS = "owner.json", "starts.json"
"""The start that owns the folder; how many starts in a row made no progress."""
FAILURE = "failure"
"""Key in ``OWNER``: the error that ended the start."""
SUMMARY = "summary.json"
"""Totals of a finished training."""
TRACES = "traces"
"""Folder of the traces of ``train.trace``."""
SAVED = "saved.json"
"""Holds the step of the newest checkpoint that was ever completed."""
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
