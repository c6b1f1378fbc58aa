"""What differs between two makings of a stage's result: settings, and the contents of input files."""

from collections.abc import Collection, Mapping
from typing import Any


def contents(hashes: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the hashes of the inputs without their paths: a moved file is the same file."""
    return {key: list(of.values()) for key, of in hashes.items()}


def changed_settings(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "", may_grow: Collection[str] = ()
) -> list[str]:
    """Return the dotted names of the keys whose values differ; lists called ``may_grow`` may have further items now."""
    names = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        name = f"{prefix}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += changed_settings(old, new, f"{name}.", may_grow)
        elif old != new and not (name in may_grow and old == (new or [])[: len(old or [])]):
            names.append(name)
    return names


def changed_files(before: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return, for each input that differs, the paths with new contents, else those with contents that are gone, else
    (another order) the input's name."""
    names: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key, {}), now.get(key, {})
        if list(old.values()) != list(new.values()):
            old_digests, new_digests = set(old.values()), set(new.values())
            fresh = [path for path, digest in new.items() if digest not in old_digests]
            gone = [path for path, digest in old.items() if digest not in new_digests]
            names += fresh or gone or [key]
    return names
