"""Start the runs of a study as forks of one process that has imported everything, so that they begin at once."""

import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from nemo_adapt.machine import fork_server, ranks, workers

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
"""torchrun's environment variables for a process that is the only rank."""


def context(ranks_at_a_time: int) -> ForkServerContext:
    """Return the fork server for runs with ``ranks_at_a_time`` ranks in total."""
    return fork_server.running("nemo_adapt.study.preload", ranks_at_a_time)


def start(
    server: ForkServerContext, command: Sequence[str], log: Path, alone: bool, environment: dict[str, str]
) -> ForkServerProcess:
    """Start ``nemo-adapt COMMAND`` with its output appended to ``log``; ``alone``: one rank, without a launcher."""
    return fork_server.start(server, _run, list(command), log, alone, environment)


def _run(command: list[str], log: Path, alone: bool, environment: dict[str, str]) -> None:
    """Run the command in the new process, with the command's exit code."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)
    workers.signal_when_starter_ends(signal.SIGTERM)  # if the study is killed, its runs save and end
    with log.open("ab") as out:
        for stream in (1, 2):
            os.dup2(out.fileno(), stream)
    for name in ALONE:  # a container may have set them for the Slurm task that all runs of the study share
        os.environ.pop(name, None)
    os.environ.update(environment | (ALONE if alone else {}))
    sys.argv = ["nemo-adapt", *command]
    from nemo_adapt import cli

    cli.main()
