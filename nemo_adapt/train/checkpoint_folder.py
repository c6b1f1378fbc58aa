"""The folder of a training's checkpoints: which are complete, and which are deleted. For the first rank only.

A checkpoint is written to ``iter_0000100.TOKEN.partial``, where TOKEN is that of the start that writes it, and renamed
when it is complete. It is renamed again before it is deleted, so that a final name never refers to half a checkpoint.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nemo_adapt.checkpoint.common_state import write_common
from nemo_adapt.checkpoint.folders import complete, step_of
from nemo_adapt.checkpoint.integrity import damage, seal
from nemo_adapt.checkpoint.scores import SCORE, best, score_of
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import sync_one, write_json
from nemo_adapt.train.fence import Fence
from nemo_adapt.training_files import SAVED

DAMAGED = ".damaged"
PARTIAL = ".partial"
CHOSEN_BY = "chosen_by"
"""Key in ``score.json``: the text that was scored."""


def not_written(checkpoints: Path, why: object) -> str:
    """Return the message for a checkpoint that could not be written."""
    before = complete(checkpoints)
    left = f"{before[-1].name} is intact: the same command goes on from it" if before else "There is no earlier one"
    return f"{checkpoints}: a checkpoint could not be written: {why}. {left}"


def partial_name(place: Path, fence: Fence) -> Path:
    """Return the path at which this start writes a checkpoint until it is complete."""
    return place.with_name(f"{place.name}.{fence.token}{PARTIAL}")


def clean_up(folder: Path, fence: Fence) -> None:
    """Delete the incomplete checkpoints of earlier starts."""
    for left in folder.glob(f"iter_*{PARTIAL}"):
        fence.check()  # not those of a later start, which owns the folder now
        shutil.rmtree(left, ignore_errors=True)


def drop_scores(folder: Path, chosen_by: Mapping[str, Any] | None) -> None:
    """Delete scores of other text than the best checkpoint is ``chosen_by`` from now on (``None``: no best is kept).

    Those of damaged checkpoints too, which no later one might beat.
    """
    for place in complete(folder):
        if not (score := score_of(place)):
            continue
        if wrong := damage(place):
            say(f"{place} is damaged ({wrong}): it no longer counts as the best one")
        if wrong or chosen_by is None or score.get(CHOSEN_BY) != chosen_by:
            (place / SCORE).unlink()


def check_best(folder: Path, chosen_by: Mapping[str, Any] | None) -> None:
    """For a training without steps left: raise ``UserError`` unless its best checkpoint, if one is to be kept, is
    ``chosen_by`` this text."""
    chosen = best(folder)[0]
    if chosen_by is not None and score_of(folder / chosen).get(CHOSEN_BY) != chosen_by:
        raise UserError(
            f"{folder.parent}: all steps are done, so that no best checkpoint can be chosen by another text: set "
            "train.keep_best, train.score_bytes, evaluate.target, its text and evaluate.context as they were"
        )


def record_score(checkpoint: Path, score: Mapping[str, Any], fence: Fence) -> None:
    """Write the score of a complete checkpoint, which is the best so far."""
    fence.check()
    write_json(checkpoint / SCORE, score)


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files are there, with their sizes; report damaged ones and rename them, so
    that they are not used again.

    ``None`` if none was ever saved. ``UserError`` if all that were saved are damaged or gone: training would silently
    restart from the beginning.
    """
    for place in reversed(complete(folder)):
        wrong = damage(place)
        if not wrong:
            return place
        reject(place, wrong)
    if (folder.parent / SAVED).is_file():
        raise UserError(
            f"{folder}: no saved checkpoint is intact any more: put one back, or delete {folder.parent} "
            "to train from the beginning"
        )
    return None


def reject(place: Path, wrong: str) -> None:
    """Report a damaged checkpoint and rename it, so that it is not used."""
    _set_aside(place)
    say(f"{place} is damaged ({wrong}): kept as {place.name}{DAMAGED}; looking for the one before")


def publish(
    partial: Path,
    place: Path,
    sizes: Mapping[str, int],
    fence: Fence,
    keep: int,
    score: Mapping[str, Any] | None,
    keep_every: int = 0,
) -> list[Path]:
    """Publish a checkpoint whose tensors are written: rename it to ``place``. Returns what is to be deleted, renamed:
    all but the ``keep`` newest and those of steps that ``keep_every`` (0: none) divides.

    ``sizes``: those of the files with tensors. ``score``: its bits per byte and the text they are of, if it is the best
    so far. On any error earlier checkpoints stay and ``partial`` is deleted. ``UserError`` if another start owns the
    folder now. If another start has already saved the same step, its checkpoint stays and ``partial`` is to be deleted.
    """
    try:
        write_common(partial)
        if score is not None:
            write_json(partial / SCORE, score)
        seal(partial, sizes)
        _sync(partial)
        fence.check()
        if place.is_dir() and not damage(place):
            fence.check()  # raises if a later start has saved the step, not if a stalled earlier one has
            return [partial]
        if place.is_dir():
            _set_aside(place)
        partial.rename(place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(not_written(place.parent, error)) from None
        raise
    _sync(place.parent)
    write_json(place.parent.parent / SAVED, {"step": step_of(place)})
    return _old(place.parent, fence, keep, keep_every)


def delete(partials: Iterable[Path]) -> None:
    """Delete checkpoints that have no final name any more."""
    for partial in partials:
        shutil.rmtree(partial, ignore_errors=True)
        if partial.exists():  # in use: on NFS as long as a process has it open
            say(f"{partial} cannot be deleted now: the next start deletes it")


def _old(folder: Path, fence: Fence, keep: int, keep_every: int) -> list[Path]:
    """Rename, and return, all checkpoints but the ``keep`` newest, the best one and every ``keep_every``-th step's, and
    damaged ones that are older than the newest."""
    whole, chosen = complete(folder), best(folder)[0]
    kept = whole[-max(1, keep) :]
    stays = {chosen, *(each.name for each in whole if keep_every and step_of(each) % keep_every == 0)}
    old = [each for each in whole if each not in kept and each.name not in stays]
    old += [each for each in folder.glob(f"iter_*{DAMAGED}") if each.name < kept[0].name]
    return [each.rename(partial_name(each, fence)) for each in old]


def _set_aside(place: Path) -> None:
    """Rename a damaged checkpoint, so that it is no longer used but can be inspected."""
    aside = place.with_name(place.name + DAMAGED)
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)


def _sync(folder: Path) -> None:
    """Fsync a folder and the small files in it; Megatron itself syncs the tensor files."""
    for path in (*(file for file in folder.iterdir() if file.is_file() and file.suffix != ".distcp"), folder):
        sync_one(path)
