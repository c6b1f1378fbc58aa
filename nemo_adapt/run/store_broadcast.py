"""The first rank of a launcher tells the others its answers, or its error, through the store where torch's ranks meet.

A process group, over which ``collectives.py`` does the same, is made only when training starts, perhaps hours
later, and a rank that waits does so in Python, where signals are handled. All ranks call the same functions in the same
order.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError, one_line
from nemo_adapt.machine import ranks, rendezvous
from nemo_adapt.run.manifest import read_manifest

PAUSES = 0.01, 0.5
"""Shortest and longest seconds between two looks: a thousand ranks look, and some answers take hours."""
LEAVING_SECONDS = 600.0
"""How long the first rank waits at the end for the others, one of which may have died."""
LEFT = "left"
_numbers = count()
"""Of the answers of this process, in the order in which they are given or asked for."""


def first_rank_alone(action: Callable[[], object]) -> None:
    """Run ``action`` on the first rank alone; the others wait. What it raises ends all (``errors_told``)."""
    if ranks.is_first():
        with errors_told():
            action()
            tell(None)
    else:
        told()


@contextlib.contextmanager
def errors_told() -> Iterator[None]:
    """Context on the first rank: an error is also the answer that the others wait for. They raise it as ``UserError``,
    which a rank prints only if the first one, which prints it at once, has not ended it by then."""
    if ranks.several():
        _store()  # before anything can fail: the others see it if the process that holds the store ends
    try:
        yield
    except Exception as error:
        tell(None, str(error) if isinstance(error, UserError) else one_line(error))
        raise


def tell(answer: Any, error: str = "") -> None:
    """On the first rank: give the others the next answer, as JSON, or the ``error`` that they are to raise."""
    if ranks.several():
        _store().set(str(next(_numbers)), json.dumps([answer, error], default=str))


def told() -> Any:
    """On another rank: wait for the first rank's next answer, however long its work takes. ``UserError`` if that is an
    error, or if the first rank has ended without one."""
    store, key, pauses = _store(), str(next(_numbers)), _pauses()
    while not _asked(store.check, [key]):
        time.sleep(next(pauses))
    answer, error = json.loads(_asked(store.get, key))
    if error:
        raise UserError(error)
    return answer


def leave() -> None:
    """After the last answer: the first rank, whose process may hold the store, waits until the others have read it."""
    if not ranks.several():
        return
    if not ranks.is_first():
        with contextlib.suppress(UserError):  # it has waited long enough, and left
            _asked(_store().add, LEFT, 1)
        return
    pauses, until = _pauses(), time.monotonic() + LEAVING_SECONDS
    while _store().add(LEFT, 0) < int(os.environ["WORLD_SIZE"]) - 1 and time.monotonic() < until:
        time.sleep(next(pauses))


def wait_for_folder(folder: Path, fingerprint: str) -> None:
    """Wait until this rank's node sees the folder that the first rank has finished, or is finishing, on the shared file
    system; ``UserError`` after 12 hours."""

    pauses, until = _pauses(), time.monotonic() + rendezvous.TIMEOUT.total_seconds()
    while read_manifest(folder).get("fingerprint") != fingerprint:
        if time.monotonic() > until:
            raise UserError(f"{folder} was not finished by the first rank in {rendezvous.TIMEOUT}")
        time.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    pause, longest = PAUSES
    while True:
        yield pause
        pause = min(2 * pause, longest)


def _asked(ask: Callable[..., Any], *words: Any) -> Any:
    """Ask the store; ``UserError`` if the process that holds it has ended."""
    from torch import distributed as dist

    try:
        return ask(*words)
    except dist.DistNetworkError:
        raise UserError("the first rank has ended: see its error; run the same command to go on") from None


def _store() -> Any:
    """Return the store where the ranks meet. Their process groups, which meet there too, use other keys."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    return PrefixStore("first rank", rendezvous.store())
