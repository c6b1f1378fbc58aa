"""Start the runs of a study as forks of one process that has imported everything, so that they begin at once."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from nemo_adapt.machine import ranks
from nemo_adapt.machine.workers import cores

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
"""torchrun's environment variables for a process that is the only rank."""


def context(ranks_at_a_time: int) -> ForkServerContext:
    """Return the fork server for runs with ``ranks_at_a_time`` ranks in total, which share the cores as OpenMP threads.

    On a GPU machine nothing is imported before the fork: a process that has initialized CUDA cannot be forked.
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
    """Start ``nemo-adapt COMMAND`` with its output appended to ``log``; ``alone``: one rank, without a launcher.

    The fork server is started with stop signals blocked, so a signal for the runs does not end it.
    """
    process = server.Process(target=_run, args=(list(command), log, alone, environment))
    with ranks.stop_signals_blocked():  # the first start also starts the fork server
        process.start()
    return process


def _end_with_study() -> None:
    """Wait until the study's process is gone (killed, for example); then make this run save and end."""
    study = multiprocessing.parent_process()
    if study:
        study.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _run(command: list[str], log: Path, alone: bool, environment: dict[str, str]) -> None:
    """Run the command in the new process, with the command's exit code."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)
    threading.Thread(target=_end_with_study, daemon=True).start()
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    for name in ALONE:  # a container may have set them for the Slurm task that all runs of the study share
        os.environ.pop(name, None)
    os.environ.update(environment | (ALONE if alone else {}))
    sys.argv = ["nemo-adapt", *command]
    from nemo_adapt import cli

    cli.main()
