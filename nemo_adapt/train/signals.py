"""Stopping in time: USR1 and TERM ask a training to save, and to end with an exit code that means more to do."""

import signal
from types import FrameType, TracebackType
from typing import Any

from nemo_adapt import ranks


class Signals:
    """While entered, notes the signals that reach this process."""

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        for number in ranks.STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)  # a job blocks them until here
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:  # the process ends, and TERM comes where an earlier rank has ended for the same
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        ranks.terminated |= number == signal.SIGTERM
