"""Training checkpoints: saved whole or not at all, while training goes on."""

import copy
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from torch.distributed.checkpoint.api import CheckpointException

from nemo_adapt.checkpoint.whole import best
from nemo_adapt.errors import UserError
from nemo_adapt.train.checkpoint_folder import CHOSEN_BY, GO_ON, partial_name, put
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.setup import Trainer
from nemo_adapt.train.state import saved_state
from nemo_adapt.train.together import agree, first_rank_does

FULL = 1 << 20
"""A disk with fewer free bytes is full: writing takes what there is before it fails."""
PAUSE = 0.5
"""Seconds between two looks at whether all ranks have written their files."""
WRITER = {"async_strategy": "mcore"} if "async_strategy" in signature(dist_checkpointing.save).parameters else {}
"""Megatron's own. Since 0.17 it asks for one of another package where it is told nothing."""


@dataclass
class _Writing:
    """A checkpoint that is being written."""

    partial: Path
    place: Path
    """The folder's name when it is whole."""
    score: dict[str, Any] | None
    request: AsyncRequest
    thread: threading.Thread


@dataclass
class Saver:
    """Saves into ``folder`` as ``iter_0000100``, one checkpoint at a time. All methods are collectives."""

    folder: Path
    fence: Fence
    keep: int
    """Newest checkpoints that are kept; the best one is kept beside them."""
    wait: bool = False
    """Do not train on while a checkpoint is written."""
    chosen_by: Mapping[str, Any] | None = None
    """What text the best checkpoint is chosen by; ``None``: none is kept."""
    _writing: _Writing | None = None
    _waited: float = 0.0
    """Seconds that training has stood still for the checkpoint that is being written, or was the last."""

    def save(self, trainer: Trainer, progress: dict[str, Any], best_score: float | None = None) -> float:
        """Begin to save the state at ``progress["step"]``; what was being saved before is finished first.

        ``best_score``: its bits per byte, if no checkpoint has fewer. Returns the seconds that training has waited
        for the one before, since it was begun.
        """
        self.finish()
        waited, self._waited = self._waited, 0.0
        place = self.folder / f"iter_{progress['step']:07d}"
        partial = partial_name(place, self.fence)
        first_rank_does(self._begin, partial)
        score = None if best_score is None else {"bits_per_byte": best_score, CHOSEN_BY: self.chosen_by}
        state = {**saved_state(trainer), "progress": copy.deepcopy(progress)}
        try:
            request = dist_checkpointing.save(state, str(partial), async_sharded_save=True, **WRITER)
            self._writing = _Writing(partial, place, score, request, _start(request))
            if self.wait:
                self.finish()
                self._waited = 0.0  # as it was asked to
        except CheckpointException as error:
            self._fail(partial, error)
        except (OSError, RuntimeError) as error:  # of the first rank's small files: the others do not know
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(f"{partial.parent}: a checkpoint could not be written: {error}") from None
        return waited

    def beats_all(self, bits_per_byte: float) -> bool:
        """Whether no checkpoint has scored so well."""
        self.finish()
        return bool(first_rank_does(lambda: bits_per_byte < best(self.folder)[1]))

    def look(self) -> None:
        """Put the checkpoint that is being written in its place if it is whole by now."""
        if self._writing and not agree(self._writing.thread.is_alive())[0]:
            self._settle(self._writing)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        began = time.monotonic()
        while self._writing:
            self._writing.thread.join(PAUSE)  # ranks that were silent for long would be taken for lost
            self.look()
        self._waited += time.monotonic() - began

    def _settle(self, writing: _Writing) -> None:
        self._writing = None
        try:
            for finalize in writing.request.finalize_fns:
                finalize()
        except CheckpointException as error:
            self._fail(writing.partial, error)
        first_rank_does(put, writing.partial, writing.place, self.fence, self.keep, writing.score)

    def _begin(self, partial: Path) -> None:
        self.fence.check()
        partial.mkdir(parents=True)

    def _fail(self, partial: Path, error: CheckpointException) -> NoReturn:
        """Say why a checkpoint could not be written; what there was before stays."""
        reasons = "; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))
        if shutil.disk_usage(partial.parent).free < FULL:  # torch's writer only says that it is not where it should be
            reasons = "No space left on device"
        said = [f"{partial.parent}: a checkpoint could not be written: {reasons}"]
        dist.broadcast_object_list(said)  # only the first rank knows
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{said[0]}. {GO_ON}") from None


def _start(request: AsyncRequest) -> threading.Thread:
    """Write this rank's files beside training; ``request.finalize_fns`` say on all ranks how it went."""
    arguments = list(request.async_fn_args)
    if request.preload_fn:
        arguments[1] = request.preload_fn()  # from the GPU
    thread = threading.Thread(target=request.async_fn or (lambda: None), args=arguments)  # some have nothing to write
    thread.start()
    return thread
