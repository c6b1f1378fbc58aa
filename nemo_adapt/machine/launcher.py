"""Starts a stage's ranks on this machine with torchrun's launcher, forwards signals to them, and ends as they do."""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nemo_adapt.errors import ERROR, UserError
from nemo_adapt.machine import fork_server, workers
from nemo_adapt.machine.ranks import MISTAKE, MORE_TO_DO, exit_asked, exit_now, to_handle

PRELOAD = "nemo_adapt.preload_ranks"
"""What is imported once for all ranks."""
GO_ON = "run the same command to go on from what is finished"
ASKED = b"\nasked to stop after this step; Control-C again ends at once\n"
LOST = 255
"""Exit code of a process whose fork server has been killed (multiprocessing/popen_forkserver.py)."""


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run ``python -m nemo_adapt ARGUMENTS`` on ``count`` ranks of this machine and wait for them.

    When one fails, the others are terminated. Raises the ``UserError`` that a rank reported; ``SystemExit`` with
    ``MORE_TO_DO`` if they were asked to stop, even if all then finished their work; and ``SystemExit`` with 1 for any
    other failure, whose traceback the rank has printed, or with 128 + its number for QUIT.
    """
    with _forwarding() as forwarded, tempfile.TemporaryDirectory(prefix="nemo_adapt_") as folder:
        try:
            fork_server.running(PRELOAD, count)  # imports while this process does
            _launch(count, arguments, Path(folder), forwarded)
        except (EOFError, ConnectionError):
            said = "the process that imports for all ranks was killed, or failed (see above)"
            print(f"{ERROR}{said}; {GO_ON}", file=sys.stderr)
            raise SystemExit(1) from None
    if forwarded:  # the ranks finished nevertheless; the next stage must not start
        exit_asked()


def _launch(count: int, arguments: Sequence[str], folder: Path, forwarded: Collection[int]) -> None:
    """Run ``_run`` on ``count`` processes with torchrun's launcher, whose files are in ``folder``; exit if it fails.
    Ranks report users' mistakes in there: those of all, of which the launcher knows only the first that has failed."""
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    mistakes = folder / "mistakes"
    mistakes.mkdir()
    config = LaunchConfig(
        run_id="nemo_adapt",
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        monitor_interval=0.2,
        start_method="forkserver",
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs")),  # its own folder would stay
        # At these it kills the ranks. Not TERM, INT and HUP: we forward them, and under nohup its handler would undo
        # that HUP is ignored.
        signals_to_handle="SIGQUIT",
    )
    if forwarded:  # before any rank ran: Python ignores what is raised in a callback of its imports
        raise SystemExit(MORE_TO_DO)
    try:
        elastic_launch(config, _run)(list(arguments), mistakes)
    except ChildFailedError as error:
        if reported := sorted(mistakes.iterdir()):  # such a rank may still crash while it exits
            raise UserError(reported[0].read_text(encoding="utf-8")) from None
        _exit_like(list(error.failures.values()), forwarded)
    except SignalException as error:
        print(f"{ERROR}the ranks were killed by {error.sigval.name}; {GO_ON}", file=sys.stderr)
        raise SystemExit(128 + error.sigval) from None


def _run(arguments: list[str], mistakes: Path) -> None:
    """Do in a new process what ``python -m nemo_adapt ARGUMENTS`` does, with its exit code."""
    os.environ[MISTAKE] = str(mistakes / os.environ["RANK"])
    # A rank whose command has ended must end too: it holds memory that the next start needs. Until all ranks have met
    # (`devices.start_ranks`), it cannot handle TERM, and may wait for one that the command did not fork any more.
    workers.signal_when_starter_ends(signal.SIGKILL)
    sys.argv = ["nemo-adapt", *arguments]
    try:
        runpy.run_module("nemo_adapt", run_name="__main__")
    except SystemExit as ended:
        exit_now(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        exit_now(1)  # Python's own end may wait for threads
    workers.signal_when_starter_ends(signal.SIGKILL)  # the launcher lets it end, which a training's rank waits for


def _exit_like(failures: Sequence[Any], forwarded: Collection[int] = ()) -> NoReturn:
    """Exit like the failed ranks. One killed by a signal in ``forwarded`` had no handler for it yet, so it has lost
    nothing."""
    # A rank exits with MORE_TO_DO once all have saved; the launcher then terminates those that are still exiting.
    codes = {failure.exitcode for failure in failures if failure.exitcode >= 0 or -failure.exitcode in forwarded}
    if codes and codes <= {MORE_TO_DO, *(-number for number in forwarded)}:
        if MORE_TO_DO in codes:  # that rank has printed it
            raise SystemExit(MORE_TO_DO) from None
        exit_asked()
    for failure in failures:
        if failure.exitcode < 0:
            print(f"{ERROR}rank {failure.local_rank} was killed by {failure.signal_name()}; {GO_ON}", file=sys.stderr)
        if failure.exitcode == LOST:
            said = f"rank {failure.local_rank}: the process that it is a fork of was killed"
            print(f"{ERROR}{said}; {GO_ON}", file=sys.stderr)
    raise SystemExit(1) from None


@contextlib.contextmanager
def _forwarding() -> Iterator[Collection[int]]:
    """Context: forward signals to the ranks, which are child processes; yields the set of signals forwarded so far.
    Before any rank runs, a signal raises ``SystemExit`` with ``MORE_TO_DO``, as no rank would get it. Control-C, which
    ranks get from the terminal too but ignore, is forwarded as TERM; a second one kills the ranks and raises
    ``KeyboardInterrupt``.
    """
    others, forwarded = multiprocessing.active_children(), set[int]()
    interrupted = False

    def send(ranks: Sequence[Any], number: int) -> None:
        for rank in ranks:
            if rank.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rank.pid, number)

    def forward(number: int, frame: Any) -> None:
        nonlocal interrupted
        ranks = [child for child in multiprocessing.active_children() if child not in others]
        if number == signal.SIGINT:
            if interrupted:
                send(ranks, signal.SIGKILL)  # torchrun's launcher would wait half a minute for a rank within a step
                raise KeyboardInterrupt
            interrupted, number = True, signal.SIGTERM
            if ranks:
                os.write(2, ASKED)  # print could be in the middle of a line
        send(ranks, number)
        forwarded.add(number)
        if not ranks:
            exit_asked()

    before = {number: signal.signal(number, forward) for number in (*to_handle(), signal.SIGINT)}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
