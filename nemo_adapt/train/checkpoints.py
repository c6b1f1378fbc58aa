"""Saving training checkpoints: atomically, and in the background while training continues."""

import copy
import shutil
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from torch.distributed.checkpoint.api import CheckpointException

from nemo_adapt.checkpoint.folders import checkpoint_name
from nemo_adapt.checkpoint.integrity import sizes_of_rank
from nemo_adapt.checkpoint.scores import TRAINED_ON, best
from nemo_adapt.collectives import all_gather, any_rank, first_rank_does
from nemo_adapt.errors import UserError
from nemo_adapt.train.checkpoint_folder import CHOSEN_BY, delete, not_written, partial_name, publish, record_score
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.setup import Trainer
from nemo_adapt.train.state import saved_state

FULL = 1 << 20
"""A disk with fewer free bytes counts as full: a writer uses up the space that is left before it fails."""
PAUSE = 0.5
"""Seconds between two checks whether all ranks have written their files."""
WRITER = {"async_strategy": "mcore"} if "async_strategy" in signature(dist_checkpointing.save).parameters else {}
"""Selects Megatron's own writer: since 0.17 the default is one from another package."""


@dataclass
class _Writing:
    """A checkpoint that is being written."""

    partial: Path
    place: Path
    """Its path once it is complete."""
    score: dict[str, Any] | None
    request: AsyncRequest
    thread: threading.Thread


@dataclass
class Saver:
    """Saves checkpoints into ``folder`` as ``iter_0000100``, one at a time. All methods are collectives."""

    folder: Path
    fence: Fence
    keep: int
    """Number of newest checkpoints to keep, besides the best one."""
    keep_every: int = 0
    """Keep those of steps that this divides, too; 0: none."""
    wait: bool = False
    """Block training while a checkpoint is written."""
    chosen_by: Mapping[str, Any] | None = None
    """The text that the best checkpoint is chosen by; ``None``: no best one is kept."""
    _writing: _Writing | None = None
    _deleting: threading.Thread | None = None
    """Deletes old checkpoints, on the first rank; as in torchtitan, no rank waits for it before the next save."""
    _checked: "weakref.ref[Trainer] | None" = None
    """The trainer of the last save. It is not kept in memory: the next phase makes an optimizer of its own."""
    _waited: float = 0.0
    """Seconds for which the checkpoint being written, or the last one, has blocked training."""

    def save(self, trainer: Trainer, progress: dict[str, Any], best_score: float | None = None) -> float:
        """Start saving the state at ``progress["step"]``, after finishing the previous save.

        ``best_score``: its bits per byte, if it is the best so far. Returns the seconds for which the previous save has
        blocked training. ``UserError`` if a checkpoint cannot be written.
        """
        self.finish()
        waited, self._waited = self._waited, 0.0
        place = self.folder / checkpoint_name(progress["step"])
        partial = partial_name(place, self.fence)
        first_rank_does(self._begin, partial)
        score = None if best_score is None else self._score_file(best_score, progress)
        state = {**saved_state(trainer), "progress": copy.deepcopy(progress)}
        try:
            # Whether all ranks together have all of every tensor is the same for all saves of a phase. Megatron's check
            # gathers the names and places of all shards on every rank, thousands from each.
            checks = self._checked is None or self._checked() is not trainer
            request = dist_checkpointing.save(
                state, str(partial), async_sharded_save=True, validate_access_integrity=checks, **WRITER
            )
            self._checked = weakref.ref(trainer)
        except CheckpointException as error:
            self._fail(partial, error)
        except (OSError, RuntimeError) as error:  # the first rank's small files; other ranks see no error
            if dist.get_rank() == 0:
                shutil.rmtree(partial, ignore_errors=True)
            raise UserError(f"{partial.parent}: a checkpoint could not be written: {error}") from None
        self._writing = _Writing(partial, place, score, request, _start(request))
        if self.wait:
            self.finish()
            self._waited = 0.0  # this wait was requested
        return waited

    def beats_all(self, bits_per_byte: float) -> bool:
        """Whether ``bits_per_byte`` is lower than the score of every saved checkpoint."""
        self.finish()
        return bool(first_rank_does(lambda: bits_per_byte < best(self.folder)[1]))

    def record_best(self, progress: Mapping[str, Any], bits_per_byte: float) -> None:
        """Record the score of the saved checkpoint of ``progress["step"]``, which is the best so far."""
        place, score = self.folder / checkpoint_name(progress["step"]), self._score_file(bits_per_byte, progress)
        first_rank_does(record_score, place, score, self.fence)

    def poll(self) -> None:
        """Publish the checkpoint that is being written if all ranks have finished writing."""
        if self._writing and not any_rank(self._writing.thread.is_alive())[0]:
            self._publish(self._writing)

    def finish(self) -> None:
        """Wait until the checkpoint that is being written is published, and old ones are deleted."""
        began = time.monotonic()
        while self._writing:
            self._writing.thread.join(PAUSE)  # polls: silent ranks would hit the collectives' timeout
            self.poll()
        if self._deleting:
            self._deleting.join()
        self._waited += time.monotonic() - began

    def _publish(self, writing: _Writing) -> None:
        self._writing = None
        try:
            for finalize in writing.request.finalize_fns:
                finalize()
        except CheckpointException as error:
            self._fail(writing.partial, error)
        # Each rank looks at its own files: on NFS another node may not list them yet.
        mine = sizes_of_rank(writing.partial, dist.get_rank())
        sizes = {name: size for each in all_gather(mine) for name, size in each.items()}
        words = (writing.partial, writing.place, sizes, self.fence, self.keep, writing.score, self.keep_every)
        old = first_rank_does(publish, *words)
        if dist.get_rank() == 0:
            self._deleting = threading.Thread(target=delete, args=[old], daemon=True)
            self._deleting.start()

    def _score_file(self, bits_per_byte: float, progress: Mapping[str, Any]) -> dict[str, Any]:
        seen = {name: progress[name] for name in TRAINED_ON if name in progress}
        return {"bits_per_byte": bits_per_byte, CHOSEN_BY: self.chosen_by, **seen}

    def _begin(self, partial: Path) -> None:
        self.fence.check()
        partial.mkdir(parents=True)

    def _fail(self, partial: Path, error: CheckpointException) -> NoReturn:
        """Raise ``UserError`` with the reason why a checkpoint could not be written; earlier checkpoints stay."""
        reasons = "; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))
        if shutil.disk_usage(partial.parent).free < FULL:  # torch's writer only reports a wrong file position
            reasons = "No space left on device"
        said = [not_written(partial.parent, reasons)]
        dist.broadcast_object_list(said)  # only the first rank has the failures
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(said[0]) from None


def _start(request: AsyncRequest) -> threading.Thread:
    """Write this rank's files in a thread; ``request.finalize_fns`` then report the result on all ranks."""
    arguments = list(request.async_fn_args)
    if request.preload_fn:
        # Copies them from the GPU. Megatron's writer has the same list, and would keep the originals until the end,
        # while the next phase makes an optimizer of its own.
        arguments[1][:] = request.preload_fn()
    thread = threading.Thread(target=request.async_fn or (lambda: None), args=arguments)  # some ranks write nothing
    thread.start()
    return thread
