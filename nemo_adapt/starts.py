"""Which start of a Slurm job a process belongs to.

When Slurm loses sight of a node it starts the job again elsewhere, and the processes on that node may live on.
"""

import os
from collections.abc import Mapping
from typing import Any


def this_start() -> dict[str, Any]:
    """The ``job`` of this process (empty outside of Slurm), and how often it was queued again (``restart``)."""
    return {"job": os.environ.get("SLURM_JOB_ID", ""), "restart": int(os.environ.get("SLURM_RESTART_COUNT") or 0)}


def is_earlier(start: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Whether ``start`` is one of the same job that came before, and was given up for another."""
    same = bool(start.get("job")) and start["job"] == than.get("job")
    return same and start.get("restart", 0) < than.get("restart", 0)
