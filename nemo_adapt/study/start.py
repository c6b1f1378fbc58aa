"""Starting the runs of a study: forks of one process that has imported everything, so that each begins at once."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from nemo_adapt import ranks
from nemo_adapt.workers import cores

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
"""torchrun's variables in a process that is the only rank."""


def context(ranks_at_a_time: int) -> ForkServerContext:
    """What starts runs whose ranks share the cores; signals for the runs do not end the process that they are forked
    from.

    On a GPU machine nothing is imported before the fork: a process that has asked CUDA cannot be forked.
    """
    from nemo_adapt import devices

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // ranks_at_a_time)))
    server = multiprocessing.get_context("forkserver")
    if not devices.on_gpu():
        server.set_forkserver_preload(["nemo_adapt.study.prepared"])
    return server


def start(
    server: ForkServerContext, command: Sequence[str], log: Path, alone: bool, environment: dict[str, str]
) -> ForkServerProcess:
    """Run ``nemo-adapt COMMAND`` with what it says in ``log``; ``alone`` on its only rank, without a launcher."""
    process = server.Process(target=_run, args=(list(command), log, alone, environment))
    with ranks.stop_signals_blocked():  # the first start also starts the process that is forked from
        process.start()
    return process


def _end_with_study() -> None:
    """Have this run save and end once the study is not there any more, as one that was killed."""
    study = multiprocessing.parent_process()
    if study:
        study.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run(command: list[str], log: Path, alone: bool, environment: dict[str, str]) -> None:
    """In the new process: the command, whose exit code is the process's."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)
    threading.Thread(target=_end_with_study, daemon=True).start()
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    for name in ALONE:  # a container's may be there, of the one task that all runs of a study share
        os.environ.pop(name, None)
    os.environ.update(environment | (ALONE if alone else {}))
    sys.argv = ["nemo-adapt", *command]
    from nemo_adapt import cli

    cli.main()
