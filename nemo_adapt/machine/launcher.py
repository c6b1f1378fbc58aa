"""The ranks of a stage on this machine: starts them, forwards signals to them, and ends them when one fails."""

import contextlib
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NoReturn

from nemo_adapt.errors import ERROR, UserError
from nemo_adapt.machine import fork_server
from nemo_adapt.machine.meeting import STORE_FILE
from nemo_adapt.machine.ranks import ERROR_FILE, MORE_TO_DO, exit_asked, exit_now, stop_signals_blocked, to_handle
from nemo_adapt.machine.workers import cores

PRELOAD = "nemo_adapt.prepared"
"""What is imported once for all ranks."""
GO_ON = "run the same command to go on from what is finished"
GRACE_SECONDS = 30.0
"""How long the other ranks may take to end after one has failed, before they are killed: torchrun's time."""
LOST = 255
"""Exit code of a process whose fork server has been killed (multiprocessing/popen_forkserver.py)."""


@dataclass(frozen=True)
class Failure:
    """A rank that has failed: its exit code (of a signal: its number, negative), and the user's mistake, if it was one
    that it has reported."""

    rank: int
    code: int
    mistake: str = ""


def launch(count: int, arguments: Sequence[str]) -> None:
    """Run ``nemo-adapt ARGUMENTS`` on ``count`` ranks of this machine and wait for them.

    When one fails, the others are terminated. Raises the ``UserError`` that a rank reported; ``SystemExit`` with
    ``MORE_TO_DO`` if they were asked to stop, even if all then finished their work; and ``SystemExit`` with 1 for any
    other failure, whose traceback the rank has printed, or with 128 + its number for QUIT.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    started: list[ForkServerProcess] = []
    with tempfile.TemporaryDirectory(prefix="nemo_adapt_") as folder, _forwarding(started) as forwarded:
        server = fork_server.running(PRELOAD)
        _wait_for_imports(server)
        try:
            with stop_signals_blocked():  # one that comes meanwhile is for all ranks
                for rank in range(count):
                    started.append(fork_server.start(server, _run, list(arguments), _environment(rank, count, folder)))
            codes = _codes(started)
        finally:
            _end(started)
        failures = _failures(codes, [_error_file(folder, rank) for rank in range(count)])
    if failures:
        _exit_like(failures, forwarded)
    if forwarded:  # the ranks finished nevertheless; the next stage must not start
        exit_asked()


def _wait_for_imports(server: ForkServerContext) -> None:
    """Wait until the server can fork: until then a signal ends this command."""
    try:
        fork_server.start(server, _nothing).join()
    except (EOFError, ConnectionError):
        said = "the process that imports for all ranks was killed, or failed (see above)"
        print(f"{ERROR}{said}; {GO_ON}", file=sys.stderr)
        raise SystemExit(1) from None


def _nothing() -> None:
    """What the first fork does."""


def _environment(rank: int, count: int, folder: str) -> dict[str, str]:
    """Return a rank's variables: torchrun's, and the files of this launch."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    files = {STORE_FILE: f"{folder}/store", ERROR_FILE: _error_file(folder, rank)}
    return {name: str(value) for name, value in (numbers | files).items()}


def _error_file(folder: str, rank: int) -> Path:
    return Path(folder) / f"error{rank}"


def _run(arguments: list[str], environment: dict[str, str]) -> None:
    """Do in a new process what ``python -m nemo_adapt ARGUMENTS`` does, with its exit code."""
    fork_server.signal_when_parent_ends(signal.SIGTERM)  # an orphan would keep memory that a start needs
    os.environ.update(environment)
    sys.argv = ["nemo-adapt", *arguments]
    try:
        runpy.run_module("nemo_adapt", run_name="__main__")
    except Exception:  # not SystemExit, which has its code
        traceback.print_exc()
        exit_now(1)  # Python's own end may wait for threads


def _codes(started: Sequence[ForkServerProcess]) -> dict[int, int]:
    """Wait until all ranks have ended, or one has failed; return the exit codes of those that have ended, by rank."""
    codes: dict[int, int] = {}
    while len(codes) < len(started) and not any(codes.values()):
        wait([process.sentinel for rank, process in enumerate(started) if rank not in codes])
        codes = {rank: process.exitcode for rank, process in enumerate(started) if process.exitcode is not None}
    return codes


def _failures(codes: Mapping[int, int], error_files: Sequence[Path]) -> list[Failure]:
    """Return the ranks that have failed by themselves, and all that have reported a user's mistake."""
    mistakes = [file.read_text(encoding="utf-8") if file.exists() else "" for file in error_files]
    return [
        Failure(rank, codes.get(rank, 0), mistake)
        for rank, mistake in enumerate(mistakes)
        if codes.get(rank, 0) or (mistake and any(codes.values()))
    ]


def _end(processes: Sequence[ForkServerProcess]) -> None:
    """Terminate the processes, and kill those that have not ended after ``GRACE_SECONDS`` or a second Control-C."""
    _send(processes, signal.SIGTERM)
    until = time.monotonic() + GRACE_SECONDS
    try:
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
    finally:
        _send(processes, signal.SIGKILL)
        for process in processes:
            process.join()


def _send(processes: Sequence[ForkServerProcess], number: int) -> bool:
    """Send the signal ``number`` to the processes; return whether one was there to get it."""
    delivered = False
    for process in processes:
        if process.pid and process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
                delivered = True
    return delivered


def _exit_like(failures: Sequence[Failure], forwarded: Collection[int] = ()) -> NoReturn:
    """Exit like the failed ranks: raise the ``UserError`` that one reported, or ``SystemExit`` with its code. A rank
    killed by a signal in ``forwarded`` had no handler for it yet, so it has lost nothing."""
    for failure in failures:  # a rank that has reported its error may still crash in a thread while it exits
        if failure.mistake:
            raise UserError(failure.mistake)
    codes = {failure.code for failure in failures}
    if codes <= {MORE_TO_DO, *(-number for number in forwarded)}:
        if MORE_TO_DO in codes:  # that rank has printed it
            raise SystemExit(MORE_TO_DO)
        exit_asked()
    for failure in failures:
        if failure.code < 0:
            name = signal.Signals(-failure.code).name
            print(f"{ERROR}rank {failure.rank} was killed by {name}; {GO_ON}", file=sys.stderr)
        if failure.code == LOST:
            print(f"{ERROR}rank {failure.rank}: the process that it is a fork of was killed; {GO_ON}", file=sys.stderr)
    raise SystemExit(1)


@contextlib.contextmanager
def _forwarding(started: Sequence[ForkServerProcess]) -> Iterator[Collection[int]]:
    """Context: forward signals to the ranks in ``started``; yields the set of signals forwarded so far. Before any rank
    runs, a signal raises ``SystemExit`` with ``MORE_TO_DO``, as no rank would get it. Control-C, which ranks get from
    the terminal too but ignore, is forwarded as TERM; a second one raises ``KeyboardInterrupt``. QUIT kills the ranks.
    """
    forwarded: set[int] = set()
    interrupted = False

    def forward(number: int, frame: Any) -> None:
        nonlocal interrupted
        if number == signal.SIGINT:
            if interrupted:
                raise KeyboardInterrupt
            interrupted, number = True, signal.SIGTERM
        if not _send(started, number):
            exit_asked()
        forwarded.add(number)

    def kill(number: int, frame: Any) -> None:
        _send(started, signal.SIGKILL)
        print(f"{ERROR}the ranks were killed by {signal.Signals(number).name}; {GO_ON}", file=sys.stderr)
        raise SystemExit(128 + number)

    handlers = dict.fromkeys((*to_handle(), signal.SIGINT), forward) | {signal.SIGQUIT: kill}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield forwarded
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
