"""The folder of a training's checkpoints: which are whole, which are deleted when. For the first rank alone.

A checkpoint is written to ``iter_0000100.TOKEN.partial``, with the token of the start that writes it, and gets its name
when it is whole. Whatever is deleted is renamed first, so that no name ever stands for half of a checkpoint.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.artifact import write_json
from nemo_adapt.checkpoint.common import write_common
from nemo_adapt.checkpoint.whole import SCORE, best, complete, damage, score_of, seal, step_of
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.places import SAVED

DAMAGED = ".damaged"
PARTIAL = ".partial"
GO_ON = "The one before is whole: run the same command to go on from it"
CHOSEN_BY = "chosen_by"
"""In the file of a score: what text it is of."""


def partial_name(place: Path, fence: Fence) -> Path:
    """Where this start writes a checkpoint until it is whole."""
    return place.with_name(f"{place.name}.{fence.token}{PARTIAL}")


def take_over(folder: Path, fence: Fence, chosen_by: Mapping[str, Any] | None) -> None:
    """What a start does first: delete what earlier ones left half-written, and scores that were not ``chosen_by`` the
    text that is scored now (``None``: no best checkpoint is kept)."""
    for left in folder.glob(f"iter_*{PARTIAL}"):
        fence.check()  # a start that came later writes its own here
        shutil.rmtree(left, ignore_errors=True)
    for file in folder.glob(f"iter_*/{SCORE}"):
        if chosen_by is None or score_of(file.parent).get(CHOSEN_BY) != chosen_by:
            file.unlink()


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that are damaged are said, and renamed so that nobody takes them.

    ``UserError`` where there is none any more: training would begin anew.
    """
    for place in reversed(complete(folder)):
        wrong = damage(place)
        if not wrong:
            return place
        _set_aside(place)
        say(f"{place} is damaged ({wrong}): kept as {place.name}{DAMAGED}; looking for the one before")
    if (folder.parent / SAVED).is_file():
        raise UserError(
            f"{folder}: no whole checkpoint is left of those that were saved: put one back, or delete {folder.parent} "
            "to train from the beginning"
        )
    return None


def put(partial: Path, place: Path, fence: Fence, keep: int, score: Mapping[str, Any] | None) -> None:
    """Give a checkpoint whose tensors are written its name, and delete what is older than the ``keep`` newest.

    ``score``: its bits per byte and what they are of, if no checkpoint has fewer. On any error the one before stays,
    and ``partial`` does not. ``UserError`` where another start has the folder now; where
    one that has not saved the same step, its checkpoint stays.
    """
    try:
        write_common(partial)
        if score is not None:
            write_json(partial / SCORE, score)
        seal(partial)
        _sync(partial)
        fence.check()
        if place.is_dir() and not damage(place):  # another start has saved the step: a later one, or it stood still
            fence.check()
            shutil.rmtree(partial, ignore_errors=True)
            return
        if place.is_dir():
            _set_aside(place)
        partial.rename(place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"{place.parent}: a checkpoint could not be written: {error}. {GO_ON}") from None
        raise
    _sync(place.parent)
    write_json(place.parent.parent / SAVED, {"step": step_of(place)})
    _thin_out(place.parent, fence, keep)


def _thin_out(folder: Path, fence: Fence, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and the best one, and damaged ones that are older than these."""
    whole, chosen = complete(folder), best(folder)[0]
    kept = whole[-max(1, keep) :]
    old = [each for each in whole if each not in kept and each.name != chosen]
    old += [each for each in folder.glob(f"iter_*{DAMAGED}") if each.name < kept[0].name]
    for each in old:
        aside = partial_name(each, fence)
        each.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        if aside.exists():  # in use: on NFS as long as somebody reads it
            say(f"{aside} cannot be deleted now: it is at the next start")


def _set_aside(place: Path) -> None:
    """Nobody takes it from now on, and it can be looked at."""
    aside = place.with_name(place.name + DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)


def _sync(folder: Path) -> None:
    """Have the disk keep a folder's names, and what its small files hold; those of tensors are Megatron's to sync."""
    for path in (*(file for file in folder.iterdir() if file.is_file() and file.suffix != ".distcp"), folder):
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
