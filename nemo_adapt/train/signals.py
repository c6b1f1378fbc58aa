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
        self._kept: set[Any] = set()

    def __enter__(self) -> "Signals":
        for number in ranks.STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        self._kept = signal.pthread_sigmask(signal.SIG_UNBLOCK, ranks.STOP_SIGNALS)  # ranks block them until here
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:  # the process ends, and TERM comes where an earlier rank has ended for the same
            return
        # A process that kept a signal for the training ends with it, and is not to die of one on its way out. To block
        # it again would not do: threads that were started meanwhile would take it.
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if number in self._kept else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        ranks.terminated |= number == signal.SIGTERM
