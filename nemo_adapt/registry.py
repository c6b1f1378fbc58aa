"""Registries of what recipes choose by name: strategies for new rows, tokenizer methods."""

import difflib
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from nemo_adapt.errors import UserError


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint for a misspelt ``name``: `` Did you mean X?``, or an empty string if nothing is similar."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to things. Registering a name twice is a ``ValueError``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: register the decorated thing under ``name``."""

        def enter(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._things[name] = thing
            return thing

        return enter

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._things)

    def get(self, name: str) -> T:
        """Return the thing registered as ``name``; ``UserError`` with the nearest name if there is none."""
        if name not in self._things:
            raise UserError(
                f"unknown {self.kind} {name!r}.{nearest(name, self._things)} Known: {', '.join(self.names())}"
            )
        return self._things[name]
