"""Processes of this machine that share a list of jobs: an idle one takes the next job. This process works too.

Only light imports: each new process imports this module first.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from typing import Any, TypeVar

from nemo_adapt.console.progress import Bar, OnProgress
from nemo_adapt.errors import UserError

T = TypeVar("T")
STOPPED = 1 << 30
"""Value of ``SharedCounters.taken`` once a process has failed: no process takes a job then, or continues its own."""


class Stopped(Exception):
    """Raised in a process to end its work after another process has failed."""


@dataclass(frozen=True)
class SharedCounters:
    """Counters in memory that the processes share."""

    taken: "Synchronized[int]"
    """Number of jobs that some process has taken."""
    done: "Synchronized[float]"
    """Amount that has been done, in the unit of the bar."""

    def take(self, jobs: int) -> Iterator[int]:
        """Yield the numbers of jobs that no other process has taken, taking one at a time."""
        while True:
            with self.taken.get_lock():
                number = self.taken.value
                self.taken.value += 1
            if number >= jobs:
                return
            yield number

    def advance(self, amount: float) -> None:
        """Add ``amount`` to what has been done; ``Stopped`` if another process has failed."""
        if self.taken.value >= STOPPED:
            raise Stopped
        with self.done.get_lock():
            self.done.value += amount

    def stop(self) -> None:
        """Make all processes stop."""
        with self.taken.get_lock():
            self.taken.value = STOPPED


_counters: SharedCounters | None = None
"""In another process: the shared counters, which can only be passed when it starts."""


def _start(counters: SharedCounters) -> None:
    global _counters
    _counters = counters
    main = multiprocessing.parent_process()
    assert main and main.pid
    signal_when_parent_ends(signal.SIGKILL, main.pid)  # or it would take jobs that the next start takes, too


def shared_counters() -> SharedCounters:
    """Return, in another process, the counters that it shares with the main one."""
    assert _counters is not None
    return _counters


@dataclass
class Team:
    """The other processes, and the counters that all of them share."""

    counters: SharedCounters
    size: int
    pool: ProcessPoolExecutor
    bar: Bar
    others: list[Future[Any]] = field(default_factory=list)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Run ``function(*arguments)``, which gets its jobs from :func:`shared_counters`, in every other process."""
        with _usr1_blocked():
            self.others += [self.pool.submit(function, *arguments) for _ in range(self.size)]

    def advance(self, amount: float) -> None:
        """The ``OnProgress`` of this process: also updates the bar for all, and raises an error of another process."""
        self.counters.advance(amount)
        self.show()
        for future in self.others:
            if future.done() and future.exception():
                future.result()

    def results(self) -> list[Any]:
        """Wait for the other processes, updating the bar, and return their results."""
        pending = set(self.others)
        while pending:
            ended, pending = wait(pending, 1.0, FIRST_EXCEPTION)
            self.show()
            for future in ended:
                future.result()
        return [future.result() for future in self.others]

    def show(self) -> None:
        """Update the bar."""
        self.bar.advance(self.counters.done.value - self.bar.done)


@contextmanager
def _usr1_blocked() -> Iterator[None]:
    """Context: processes start with USR1 blocked, which would kill them. srun sends it to all processes of a job step;
    the main one ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def team(others: int, bar: Bar) -> Iterator[Team]:
    """Context: run ``others`` processes besides this one. An error in any of them stops all and is raised here.

    Raises ``UserError`` where a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads of this process hold
    with _usr1_blocked():  # starts multiprocessing's resource tracker
        shared = SharedCounters(context.Value("i", 0), context.Value("d", 0.0))
    with ProcessPoolExecutor(others, context, _start, (shared,)) as pool:
        try:
            yield Team(shared, others, pool, bar)
        except BrokenExecutor:
            shared.stop()
            raise UserError(
                "a process that shared the work was killed, most often because memory ran out; ask for fewer processes"
            ) from None
        except BaseException:
            shared.stop()
            raise


def share(
    jobs: int,
    processes: int,
    bar: Bar,
    mine: Callable[[Iterable[int], OnProgress], T],
    other: Callable[..., T],
    *given: Any,
) -> list[T]:
    """Run the jobs in ``processes`` processes, and return the results of all of them, this one's first.

    ``mine(numbers, on_progress)`` is called in this one, ``other(*given)`` in the others. ``other`` takes its jobs from
    :func:`shared_counters`.
    """
    if processes == 1:
        return [mine(range(jobs), bar.advance)]
    with team(processes - 1, bar) as others:
        others.submit(other, *given)
        return [mine(others.counters.take(jobs), others.advance), *others.results()]


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def signal_when_parent_ends(number: int, parent: int) -> None:
    """Make Linux send this process the signal ``number`` when its ``parent`` (a process id) ends, even by ``kill -9``;
    at once if it ended while this process began."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG of linux/prctl.h
        if os.getppid() != parent:
            os.kill(os.getpid(), number)


def signal_when_starter_ends(number: int) -> None:
    """In a fork of a fork server: get the signal ``number`` when the process that asked for it ends, even by
    ``kill -9``. The server ends with that one, and the kernel tells the server's children."""
    signal_when_parent_ends(number, os.getppid())
    starter = multiprocessing.parent_process()
    if starter and not starter.is_alive():
        os.kill(os.getpid(), number)
