"""What a stage that starts again keeps of an earlier start, and what must not have changed since."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.run.changes import changed_settings, contents

STARTED = "started.json"
"""Note in a folder that is being made: what it is made with."""
Hashes = Mapping[str, Mapping[str, str]]
"""Inputs: name -> path -> hash."""


@dataclass(frozen=True)
class Restart:
    """What a stage that starts again does with what an earlier start has left."""

    resumable: bool = False
    """It builds in place and continues where it was interrupted."""
    keeps_partial: bool = False
    """It continues from the files of an interrupted one, if inputs and settings have not changed."""
    fenced: bool = False
    """It stops writing once a later start of its Slurm job has taken over its folder."""
    may_change: tuple[str, ...] = ()
    """Beginnings of the keys of settings and inputs that may change between starts of a resumable stage."""
    optional: tuple[str, ...] = ()
    """Beginnings of the keys of inputs that some of its starts read and others do not."""
    may_grow: tuple[str, ...] = ()
    """Keys of lists to which such a start may append."""


ANEW = Restart()
"""The default: delete what an earlier start has left, and begin again."""


def read_started(folder: Path) -> dict[str, Any]:
    """Return what a resumable stage was started with in ``folder``: ``config`` and the hashes of its ``inputs``; empty
    if it has not been. Raises ``UserError`` if the file is damaged."""
    path = folder / STARTED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"config": dict(found["config"]), "inputs": dict(found["inputs"])}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{path} is damaged, so that it is not known what {folder} was begun with: if settings and inputs are the "
            "same, delete that file and run the same command"
        ) from None


def changed_since(started: Mapping[str, Any], config: Mapping[str, Any], restart: Restart) -> list[str]:
    """Return the settings that differ from those that a resumable stage was ``started`` with, though they may not."""
    changed = changed_settings(started["config"], config, may_grow=restart.may_grow)
    return [name for name in changed if not name.startswith(restart.may_change)]


def other_inputs(before: Collection[str], now: Collection[str], restart: Restart) -> list[str]:
    """Return the keys of the inputs that only one of two starts of a resumable stage reads, though both should."""
    return [name for name in sorted({*before} ^ {*now}) if not name.startswith(restart.may_change + restart.optional)]


def changed_inputs(before: Hashes, now: Hashes, restart: Restart) -> list[str]:
    """Return the inputs that differ from those that a resumable stage was started with, though they may not."""
    old, new = contents(before), contents(now)
    differ = [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    said = [f"the input {name}" for name in differ if not name.startswith(restart.may_change)]
    return other_inputs(old, new, restart) + said


def made_otherwise(place: Path, changed: Sequence[str]) -> str:
    """Return the line for the user whose resumable stage in ``place`` was started with other settings or inputs."""
    return f"{place} was made with other settings ({', '.join(changed)}): choose another run.name, or delete the folder"
