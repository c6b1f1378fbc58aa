"""Which start of a Slurm job a process belongs to.

When Slurm loses contact with a node, it requeues the job elsewhere, but the processes on that node may still run.
"""

import os
from collections.abc import Mapping
from typing import Any


def this_start() -> dict[str, Any]:
    """Return the ``job`` of this process (empty outside of Slurm), and how often it was requeued (``restart``)."""
    return {"job": os.environ.get("SLURM_JOB_ID", ""), "restart": int(os.environ.get("SLURM_RESTART_COUNT") or 0)}


def is_earlier(start: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Return whether ``start`` is an earlier start of the same job as ``than``, so that it has been superseded."""
    same = bool(start.get("job")) and start["job"] == than.get("job")
    return same and start.get("restart", 0) < than.get("restart", 0)
