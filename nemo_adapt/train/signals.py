"""Stopping on request: on USR1, TERM or HUP a training saves and exits with ``ranks.MORE_TO_DO``."""

import signal
from types import FrameType, TracebackType
from typing import Any

from nemo_adapt.machine import ranks


class Signals:
    """A context manager that records in ``seen`` whether a stop signal has reached this process."""

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[signal.Signals, Any] = {}
        self._kept: set[Any] = set()

    def __enter__(self) -> "Signals":
        for number in ranks.to_handle():
            self._before[number] = signal.signal(number, self._note)
        self._kept = signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)  # blocked since the rank started
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:  # the process fails, and gets TERM if another rank failed before it
            return
        # A process that had blocked a signal until the training ends after it: a late signal must not kill it while it
        # exits. Blocking it again is not enough, as threads started meanwhile would receive it.
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if number in self._kept else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        ranks.terminated |= number == signal.SIGTERM
