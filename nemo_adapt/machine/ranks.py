"""Ranks: what a process does that is one of several, started by us (``launcher``), by torchrun or by Slurm."""

import contextlib
import multiprocessing
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import NoReturn

from nemo_adapt.errors import ERROR, UserError

USER_ERROR = 2
"""Exit code for a user's mistake."""
MORE_TO_DO = 85
"""Exit code of a training that was asked to stop and has saved: the same command continues it."""
STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a training to save and exit: Slurm sends USR1 before a time limit (``--signal``); Slurm and others
send TERM to end a job; HUP comes when the terminal is closed. The process that started the ranks forwards them."""
MISTAKE = "NEMO_ADAPT_MISTAKE"
"""Variable of a rank that ``launcher`` started: the file for the line of a user's mistake."""
FIRST_RANK_SECONDS, NEXT_RANK_SECONDS = 10.0, 0.5
"""Seconds that the other ranks wait for rank 0 to print an error that all may have, and additional seconds per rank."""
SUMMARY_CHARS = 500
"""Most characters of an unexpected error in its one-line summary."""
terminated = False
"""Whether TERM arrived while signals were only recorded: it is not sent again to a rank that fails later."""
SLURM = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_STEP_NUM_TASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def adopt_slurm(least: int = 2) -> None:
    """Under ``srun`` with at least ``least`` tasks, set torchrun's variables for this rank from Slurm's.

    The job must set MASTER_ADDR and MASTER_PORT. In a PyTorch container, pyxis sets RANK by itself, but WORLD_SIZE
    only where the site has an enroot hook for it.
    """
    # Not SLURM_NTASKS: a batch script without srun has it too, for tasks that it has not started.
    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) >= least
    if not already_started() and several and SLURM["WORLD_SIZE"] in os.environ:
        for name, slurm in SLURM.items():
            os.environ[name] = os.environ[slurm]


def already_started() -> bool:
    """Return whether a launcher started this process as a rank."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first() -> bool:
    """Return whether this process does the work that is done only once: rank 0, or the only process."""
    return os.environ.get("RANK", "0") == "0"


def to_handle() -> list[signal.Signals]:
    """Return the signals of ``STOP_SIGNALS`` that get a handler: all, but not HUP while it is ignored, as ``nohup`` has
    it for work that is to go on without a terminal."""
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in STOP_SIGNALS if not (is_ignored and number == signal.SIGHUP)]


def stop_at_usr1() -> None:
    """Make this process exit with ``MORE_TO_DO`` at USR1, which would kill it, unless a training handles the signal: a
    job that requeues itself on that code goes on, whichever stage its time limit comes in."""
    signal.signal(signal.SIGUSR1, lambda number, frame: exit_asked())


def exit_asked() -> NoReturn:
    """Exit with ``MORE_TO_DO`` after a signal that no training could save at."""
    if is_first():
        print("asked to stop; run the same command to go on", flush=True)
    raise SystemExit(MORE_TO_DO) from None


@contextlib.contextmanager
def stop_signals_blocked(*further: signal.Signals) -> Iterator[None]:
    """Context: processes start with the signals in ``STOP_SIGNALS``, and ``further`` ones, blocked.

    srun sends signals to all processes of a rank, including one that has not installed its handlers yet.
    """
    resource_tracker.ensure_running()  # if multiprocessing starts it later, that unblocks TERM
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, *further))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report(mistake: UserError) -> None:
    """In a rank that ``launcher`` started: write the line of a user's mistake to the file where it looks for it."""
    Path(os.environ[MISTAKE]).write_text(str(mistake), encoding="utf-8")


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """Context of all that a command does: a rank ends with it, without Python's own end, where a thread of gloo or of
    autograd that needs Python aborts the process (as ``pthread_exit`` does in C++)."""
    code = 0
    try:
        yield
    except SystemExit as ended:
        if not (already_started() and isinstance(ended.code, int)):
            raise
        code = ended.code
    if already_started() and (code or multiprocessing.parent_process() is None):  # a fork ends so by itself
        exit_now(code)


def print_user_error(error: UserError) -> None:
    """Print the line of a user's mistake, once for all ranks that have the same; if there are several, exit.

    Rank 0 does so at once. Its exit makes ``torchrun``, and ``srun --kill-on-bad-exit``, terminate the others, which
    therefore wait a little; a rank that is not terminated by then is the first one with this error.
    """
    _wait_for_earlier_rank(USER_ERROR)
    print(f"{ERROR}{error}", file=sys.stderr, flush=True)
    if several():
        exit_now(USER_ERROR)


def fail(error: BaseException) -> NoReturn:
    """Exit a rank, or the only process, after an unexpected error: print its traceback and one line.

    As in ``print_user_error``, only the first rank with the error prints it. Ranks that wait keep their connections
    open, because others may be blocked on them.
    """
    _wait_for_earlier_rank(1)
    traceback.print_exception(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ... ".join(dict.fromkeys(lines[:1] + lines[-1:]))[:SUMMARY_CHARS]  # lines in between may be other errors
    what = f"{type(error).__name__}: {said}"
    who = f"rank {os.environ['RANK']} on {platform.node()}" if several() else platform.node()
    print(f"{ERROR}{who} failed: {what} (see above)", file=sys.stderr, flush=True)
    exit_now(1)


def several() -> bool:
    """Return whether this process is one of several ranks."""
    return already_started() and os.environ["WORLD_SIZE"] != "1"


def _wait_for_earlier_rank(code: int) -> None:
    """Give the launcher time to terminate this rank, which then exits with ``code``, because an earlier one has exited.

    Returns if that does not happen: this rank is then the one to print the error.
    """
    rank = int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)
    local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    if rank:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(code))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if terminated:
            os._exit(code)
        # Beyond the first nodes, one rank of each: torchrun ends only the others of its node.
        time.sleep(FIRST_RANK_SECONDS + NEXT_RANK_SECONDS * min(rank, 20 + local))


def exit_now(code: int) -> NoReturn:
    """Exit at once: exit handlers may wait for ranks that wait for this one to exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
