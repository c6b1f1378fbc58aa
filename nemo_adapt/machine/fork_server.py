"""Processes that are forks of one that has imported what they need, so that they begin at once and share its memory.

The fork server is that of Python's multiprocessing: a process without threads, of which every fork is made.
"""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from nemo_adapt.machine import gpus, workers
from nemo_adapt.machine.ranks import stop_signals_blocked

ENDING = "nemo_adapt.machine.fork_server_end"
LONGEST_FOLDER = 70
"""Characters of the temporary folder in which a socket's path, 32 longer, is one that Linux takes (unix(7): 107)."""


def running(preload: str, processes: int) -> ForkServerContext:
    """Start this process's fork server, which imports the module ``preload``, unless it runs already; return its
    context. Call it in the main thread: the server ends with the thread that has started it.

    What is forked begins with the stop signals blocked, and with the environment that this process has now; the cores
    are shared as OpenMP threads by ``processes``, as many as run at a time. On a GPU machine nothing is imported
    before: a process that has initialized CUDA cannot be forked.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, workers.cores() // processes)))
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([ENDING, preload] if _is_without_gpus() else [ENDING])
    _choose_folder()
    # One that is sent to all processes of a job step, or of a terminal, must not end the server.
    with stop_signals_blocked(signal.SIGINT):
        forkserver.ensure_running()
    return found


def start(server: ForkServerContext, target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Call ``target(*arguments)`` in a new process, once the server has imported what it preloads."""
    process = server.Process(target=target, args=arguments)
    process.start()
    return process


def _is_without_gpus() -> bool:
    if not gpus.may_exist():
        return True
    from nemo_adapt import devices  # imports torch

    return not devices.on_gpu()


def _choose_folder() -> None:
    """Make multiprocessing put its sockets into /tmp where the temporary folder's path is too long for a socket."""
    if len(tempfile.gettempdir()) <= LONGEST_FOLDER:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"
    util.get_temp_dir()  # is made once, and removed when this process ends
    tempfile.tempdir = before
