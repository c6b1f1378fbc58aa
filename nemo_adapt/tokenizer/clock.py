"""Time the steps of the stage."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """``with clock.time("learn"): ...`` adds the block's seconds to ``clock.seconds["learn"]``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, step: str) -> Iterator[None]:
        """Add the duration of the block to ``step``."""
        began = time.monotonic()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 3)
