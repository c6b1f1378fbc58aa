"""The result folder of a stage. It counts as finished only once it has a manifest.

A stage builds in ``NAME.partial``, which is renamed to ``NAME`` at the end, after ``manifest.json`` is written. A note
in it tells it from a user's folder of that name.
A resumable stage (training) builds in place: its folder counts as unfinished until the manifest exists.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import sync, write_json, write_text
from nemo_adapt.machine.facts import peak_memory_mib, versions
from nemo_adapt.machine.locks import NAMELESS, folder_lock
from nemo_adapt.run.changes import changed_files, changed_settings, contents
from nemo_adapt.run.inputs import HashOf, Inputs, hashes, input_hash
from nemo_adapt.run.manifest import FILES, MANIFEST, missing_file, read_manifest
from nemo_adapt.run.restart import (
    ANEW,
    STARTED,
    Restart,
    changed_inputs,
    changed_since,
    made_otherwise,
    read_started,
)

MOST_NAMED = 3
"""Most changes that are listed in one line."""


def fingerprint(stage: str, config: Mapping[str, Any], hashes: Mapping[str, Any]) -> str:
    """Return one hash over everything that determines a stage's result."""
    content = json.dumps([stage, config, hashes], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def check_replaceable(stage: str, out: Path) -> None:
    """Raise ``UserError`` if ``out`` exists, and is neither a result of ``stage`` nor an empty folder that can be
    renamed."""
    is_empty = out.is_dir() and not (out.is_symlink() or out.is_mount() or any(out.iterdir()))
    if out.exists() and not is_empty and read_manifest(out).get("stage") != stage:
        raise UserError(
            f"{out} exists and is not a result of nemo-adapt {stage}: choose another folder, or move it away"
        )


def check_place(stage: str, out: Path) -> None:
    """Raise ``UserError`` where ``stage`` could not write its result: as above, and where no folder can be made."""
    check_replaceable(stage, out)
    near = next(parent for parent in out.absolute().parents if parent.exists())
    if not read_manifest(out) and not (near.is_dir() and os.access(near, os.W_OK | os.X_OK)):
        raise UserError(f"{out} cannot be made, as {near} is no folder that you may write to: choose another folder")


class Stage:
    """One stage about to run: its inputs, its result folder, and whether the result exists already.

    ``config`` is the part of the resolved configuration that determines the result. The constructor hashes ``inputs``;
    it raises ``UserError`` where ``out`` is, contains or is inside one of them.
    """

    def __init__(
        self,
        name: str,
        out: Path,
        config: Mapping[str, Any],
        inputs: Inputs,
        restart: Restart = ANEW,
        hash_of: HashOf = input_hash,
    ) -> None:
        self.name, self.out, self.config, self.restart = name, out, dict(config), restart
        self._check_apart(inputs)
        self.hashes = hashes(inputs, hash_of)
        self.fingerprint = fingerprint(name, self.config, contents(self.hashes))

    def _check_apart(self, inputs: Inputs) -> None:
        """Raise ``UserError`` where replacing ``out`` would delete an input, where it is in an input's folder, and for
        ``.``, which cannot be replaced."""
        if self.out.name in NAMELESS:
            raise UserError(f"{self.name}: the result needs a folder of its own: give another than {self.out}")
        out = self.out.resolve()
        for path in (path for paths in inputs.values() for path in paths):
            place = path.resolve()
            if out == place or out in place.parents or place in out.parents:
                how = "is" if out == place else "contains" if out in place.parents else "is inside"
                raise UserError(
                    f"{self.out} {how} {path}, which {self.name} reads: choose another folder for the result"
                )

    @property
    def finished(self) -> bool:
        """True when ``out`` holds the result of exactly these inputs and this configuration, and all its files."""
        return self._is_made and not self.missing

    @property
    def _is_made(self) -> bool:
        return read_manifest(self.out).get("fingerprint") == self.fingerprint

    @property
    def missing(self) -> Path | None:
        """A file of the result that is gone since it was made, if there is one."""
        return missing_file(self.out) if self._is_made else None

    @property
    def change(self) -> str:
        """Why the stage is not finished: the settings and files that differ from those of the result in ``out``, or
        that ``out`` has no result. Empty if it is finished."""
        before = read_manifest(self.out)
        if before.get("fingerprint") == self.fingerprint:
            return f"no {self.missing}" if self.missing else ""
        if not before:
            return f"no {self.out}"
        names = [*changed_settings(before["config"], self.config), *changed_files(before["inputs"], self.hashes)]
        return ", ".join(names[:MOST_NAMED] or [self.name]) + (", …" if len(names) > MOST_NAMED else "")

    @property
    def workplace(self) -> Path:
        """The folder to build in."""
        return self.out if self.restart.resumable else self.out.with_name(self.out.name + ".partial")

    def prepare(self) -> Path:
        """Create the workplace and return it: empty, or with the files of an interrupted run.

        Raises ``UserError`` when a resumable folder was started with other settings or inputs, and when ``out`` or the
        workplace exists and is not of this stage.
        """
        place = self.workplace
        if not self.restart.resumable:
            check_replaceable(self.name, self.out)
            left, ours = place / STARTED, json.dumps({"fingerprint": self.fingerprint})
            same = left.is_file() and left.read_text(encoding="utf-8", errors="replace") == ours
            if not (self.restart.keeps_partial and same):
                self._check_partial(place)
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                write_text(left, ours)
            return place
        place.mkdir(parents=True, exist_ok=True)
        if before := read_started(place):
            changed = changed_since(before, self.config, self.restart)
            if changed := changed + changed_inputs(before["inputs"], self.hashes, self.restart):
                raise UserError(made_otherwise(place, changed))
            (place / MANIFEST).unlink(missing_ok=True)  # a finished stage continues, so it is unfinished again
        write_json(place / STARTED, {"config": self.config, "inputs": self.hashes})
        return place

    def _check_partial(self, place: Path) -> None:
        """Raise ``UserError`` for a folder that is in the way of ``place``, and that no interrupted stage has left."""
        is_ours = (place / STARTED).is_file() or read_manifest(place).get("stage") == self.name
        if place.is_symlink() or (place.exists() and not is_ours and not _is_just_made(place)):
            raise UserError(
                f"{place} is not what an interrupted nemo-adapt {self.name} has left, and is where it would work: move "
                "it away, or delete it if it is of an earlier version"
            )

    def finish(self, seconds: float, facts: Mapping[str, Any]) -> None:
        """Write the manifest, which also gets ``facts``, and rename the workplace to ``out``."""
        place = self.workplace
        if place != self.out:
            sync(place)  # before the manifest says that it is complete
        manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "inputs": self.hashes,
            "config": self.config,
            "versions": versions(),
            "seconds": round(seconds, 2),
            **({} if self.restart.resumable else {FILES: _files(place)}),  # old checkpoints may go
            **facts,
        }
        write_json(place / MANIFEST, manifest)
        if place != self.out:
            self.publish()

    @property
    def is_unpublished(self) -> bool:
        """Whether an earlier start has made the result, and only not renamed the workplace to ``out``."""
        place = self.workplace
        return place != self.out and read_manifest(place).get("fingerprint") == self.fingerprint

    def publish(self) -> None:
        """Rename the complete workplace to ``out``. ``UserError`` if that is not of this stage."""
        check_replaceable(self.name, self.out)
        place = self.workplace
        (place / STARTED).unlink(missing_ok=True)
        old = self.out.with_name(f".{self.out.name}.old")  # hidden, as a user may keep a NAME.old
        _remove(old)
        with contextlib.suppress(FileNotFoundError):
            self.out.rename(old)
        place.rename(self.out)
        _remove(old)


def _is_just_made(place: Path) -> bool:
    """Return whether a folder is empty, or has at most a note on its start that was not complete yet."""
    return all(path.name.startswith(f".{STARTED}.") for path in place.iterdir())


def _files(place: Path) -> list[str]:
    """Return the names of the files of a result."""
    found = (path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file())
    return [path.as_posix() for path in found if path.name not in (STARTED, MANIFEST)]


def _remove(place: Path) -> None:
    """Delete a folder, or the link to one; a file of it that cannot be deleted stays."""
    if place.is_symlink():
        place.unlink()
    else:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def claimed(stage: Stage, waits: bool = False) -> Iterator[bool]:
    """Context: hold the lock of a stage's folder. Yields whether the stage is still to be built: a result that only
    lacks its name gets it here.

    If another process is building the same folder: with ``waits``, wait, and the result may be there then; else raise
    ``UserError``.
    """
    with folder_lock(stage.out, stage.restart.fenced, waits):
        if stage.is_unpublished:
            stage.publish()
        yield not stage.finished


Fill = Callable[[Path], Mapping[str, Any] | None]
"""Builds a stage's result in a folder; what it returns is added to the manifest."""


def build(stage: Stage, fill: Fill) -> float:
    """Build a claimed stage's folder with ``fill(workplace)``, finish it, and return the seconds that it took."""
    began = time.monotonic()
    try:
        facts = fill(stage.prepare()) or {}
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and not error.filename:  # of a write
            error.filename = str(stage.workplace)
        raise
    seconds = time.monotonic() - began
    stage.finish(seconds, {"peak_memory_mib": peak_memory_mib(), **facts})
    return seconds


def run(stage: Stage, fill: Fill) -> None:
    """Build what a command was asked for, unless it is there, and say where it is. ``UserError`` if another process is
    building the same folder."""
    if stage.finished:
        say(f"{stage.out} was finished before")
        return
    with claimed(stage) as is_open:
        if is_open:
            build(stage, fill)
    say(f"written to {stage.out}")
