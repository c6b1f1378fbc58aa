"""The types of keys and of what they hold, read from the dataclasses."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import reduce
from typing import Any, get_args


def type_of(schema: Any, key: str) -> Any:
    """Return the type of a dotted key of a dataclass; None if there is no such key."""
    return reduce(type_below, key.split("."), schema)


def type_below(kind: Any, name: str) -> Any:
    """Return the type of a field of a dataclass, or of an entry of a list or of a table; None if there is none."""
    if is_dataclass(kind):
        return next((entry.type for entry in fields(kind) if entry.name == name), None)
    return get_args(kind)[-1] if get_args(kind) else None


def types_within(kind: Any) -> Iterator[Any]:
    """Yield the types of the values in a dataclass, a list or a table; a plain type itself."""
    if is_dataclass(kind):
        for entry in fields(kind):
            yield from types_within(entry.type)
    elif get_args(kind):
        yield from types_within(get_args(kind)[-1])
    else:
        yield kind
