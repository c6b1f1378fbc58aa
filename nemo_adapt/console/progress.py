"""Progress of long work: a live bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nemo_adapt.console.printed import span

LOG_EVERY_SECONDS = 10.0
OnProgress = Callable[[float], None]
"""Callback that gets the amount that has just been done, in its caller's unit."""


def say(message: str) -> None:
    """Print one plain line to standard output and flush it."""
    print(message, flush=True)


class Bar:
    """``with Bar("tokenizing", total, "MB") as bar: bar.advance(1.5, "loss 2.3")``.

    ``total`` and the amounts are in ``unit``, shown without decimals where ``total`` is an integer; ``done`` is the
    amount at the start. On a terminal it draws a live bar; elsewhere it prints a line every 10 seconds and one at the
    end. ``quiet`` (all ranks but the first) prints nothing.
    """

    def __init__(self, title: str, total: float, unit: str, quiet: bool = False, done: float = 0.0) -> None:
        self.title, self.total, self.unit, self.quiet = title, total, unit, quiet
        self.done = self._at_start = done
        self.note = ""
        self._printed = -1.0  # what was done at the last line
        self._live: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "Bar":
        self._began = self._said = time.monotonic()
        if sys.stdout.isatty() and not self.quiet:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[amount]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._live = Progress(*columns, console=Console(file=sys.stdout))
            self._live.start()
            self._task = self._live.add_task(
                self.title, total=self.total, completed=int(self.done), amount=self._amount(), note=""
            )
        return self

    def advance(self, amount: float, note: str = "") -> None:
        """Add ``amount`` to what is done; ``note`` is shown after the bar."""
        self.done += amount
        self.note = note or self.note
        if self._live:
            self._live.update(self._task, completed=self.done, amount=self._amount(), note=self.note)
        elif time.monotonic() - self._said >= LOG_EVERY_SECONDS:
            self._line()

    def say(self, message: str) -> None:
        """Print one line above the bar."""
        if self._live:
            self._live.console.print(message)
        elif not self.quiet:
            say(message)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None:
            self.done = self.total  # totals are estimates
        if self._live:
            self._live.update(self._task, completed=self.done, amount=self._amount())
            self._live.stop()
        elif kind is None and self._printed != self.done:
            self._line()

    def _amount(self) -> str:
        def shown(x: float) -> str:
            return f"{x:,.0f}" if self.total >= 100 or isinstance(self.total, int) else f"{x:.2f}"

        return f"{shown(self.done)}/{shown(self.total)} {self.unit}"

    def _line(self) -> None:
        self._said, self._printed = time.monotonic(), self.done
        if not self.quiet:
            seconds = self._said - self._began
            speed = (self.done - self._at_start) / seconds if seconds > 0 else 0.0
            rate = _rate(speed, self.unit) if speed else ""
            left = self.total - self.done
            until = f"{span(left / speed)} left" if speed and left > 0 else ""
            say("  ".join(part for part in (f"{self.title}: {self._amount()}", rate, until, self.note) if part))


def _rate(speed: float, unit: str) -> str:
    """Format a speed, given per second, in the shortest time that has a digit to show."""
    times = ((1, "s"), (60, "min"), (3600, "h"))
    seconds, name = next((time for time in times if speed * time[0] >= 0.1), times[-1])
    return f"{speed * seconds:,.1f} {unit}/{name}"
