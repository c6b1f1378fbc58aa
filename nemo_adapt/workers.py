"""Several processes of this machine at one list of jobs: who is free takes the next one. This process works too.

Only light imports: the processes start with this module.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from typing import Any, TypeVar

from nemo_adapt.errors import UserError
from nemo_adapt.progress import Bar

T = TypeVar("T")
STOPPED = 1 << 30
"""So many jobs are taken when the work has failed somewhere: nobody takes another, or goes on with his."""
Seen = Callable[[float], None]
"""Called with an amount that has been done, for progress bars."""


class Stopped(Exception):
    """The work has failed in another process."""


@dataclass(frozen=True)
class Common:
    """What the processes share."""

    taken: "Synchronized[int]"
    """Jobs that some process has taken."""
    done: "Synchronized[float]"
    """How much has been done, in the unit of the bar."""

    def numbers(self, jobs: int) -> Iterator[int]:
        """The numbers of jobs that nobody else has taken, one at a time."""
        while True:
            with self.taken.get_lock():
                number = self.taken.value
                self.taken.value += 1
            if number >= jobs:
                return
            yield number

    def see(self, amount: float) -> None:
        """Note that so much has been done; ``Stopped`` if it is not needed any more."""
        if self.taken.value >= STOPPED:
            raise Stopped
        with self.done.get_lock():
            self.done.value += amount

    def stop(self) -> None:
        """Let all processes end."""
        with self.taken.get_lock():
            self.taken.value = STOPPED


_common: Common | None = None
"""In another process: shared memory has to be handed over when it starts."""


def _start(common: Common) -> None:
    global _common
    _common = common


def common() -> Common:
    """In another process: what it shares with this one."""
    assert _common is not None
    return _common


@dataclass
class Team:
    """The other processes, and what all of them share."""

    common: Common
    size: int
    pool: ProcessPoolExecutor
    bar: Bar
    others: list[Future[Any]] = field(default_factory=list)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have every other process do ``function(*arguments)``, which gets its jobs from :func:`common`."""
        self.others += [self.pool.submit(function, *arguments) for _ in range(self.size)]

    def see(self, amount: float) -> None:
        """The ``Seen`` of this process, which keeps the bar for all; an error elsewhere ends the work here."""
        self.common.see(amount)
        self.show()
        for future in self.others:
            if future.done() and future.exception():
                future.result()

    def answers(self) -> list[Any]:
        """What the other processes returned, once all have ended; the bar goes on meanwhile."""
        pending = set(self.others)
        while pending:
            ended, pending = wait(pending, 1.0, FIRST_EXCEPTION)
            self.show()
            for future in ended:
                future.result()
        return [future.result() for future in self.others]

    def show(self) -> None:
        """Bring the bar up to date."""
        self.bar.advance(self.common.done.value - self.bar.done)


@contextmanager
def team(others: int, bar: Bar) -> Iterator[Team]:
    """``others`` processes beside this one. An error in any of them ends the work of all; it is raised here.

    ``UserError`` where a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of threads that are running here
    shared = Common(context.Value("i", 0), context.Value("d", 0.0))
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
    jobs: int, processes: int, bar: Bar, mine: Callable[[Iterable[int], Seen], T], other: Callable[..., T], *given: Any
) -> list[T]:
    """Have ``processes`` do jobs: this one by ``mine(numbers, seen)``, the others by ``other(*given)``.

    ``other`` takes its jobs from :func:`common`. What they return, this process's first.
    """
    if processes == 1:
        return [mine(range(jobs), bar.advance)]
    with team(processes - 1, bar) as others:
        others.submit(other, *given)
        return [mine(others.common.numbers(jobs), others.see), *others.answers()]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
