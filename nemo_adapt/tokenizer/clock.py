"""How long the steps of the stage take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """``with clock.time("learn"): ...`` adds to ``clock.seconds["learn"]``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Count the time of the block as the step's."""
        began = time.monotonic()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 3)
