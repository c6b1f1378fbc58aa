"""Which start of a Slurm job a process belongs to.

When Slurm loses contact with a node, it requeues the job elsewhere, but the processes on that node may still run.
"""

import os
import platform
from collections.abc import Mapping
from typing import Any


def this_start() -> dict[str, Any]:
    """Return the ``host`` and ``pid`` of this process, its ``job`` (empty outside of Slurm), and how often that was
    requeued (``restart``)."""
    job, restart = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    return {"host": platform.node(), "pid": os.getpid(), "job": job, "restart": restart}


def is_earlier(start: Mapping[str, Any], than: Mapping[str, Any]) -> bool:
    """Return whether ``start`` is an earlier start of the same job as ``than``, so that it has been superseded."""
    same = bool(start.get("job")) and start["job"] == than.get("job")
    return same and start.get("restart", 0) < than.get("restart", 0)
