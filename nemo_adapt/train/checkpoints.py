"""Training checkpoints: saved whole or not at all, while training goes on; loaded at any layout."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue
from torch.distributed.checkpoint.api import CheckpointException

from nemo_adapt import devices
from nemo_adapt.artifact import write_json
from nemo_adapt.checkpoint.whole import BEST, FILES, best, complete, damage
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.new_rows import NAME as NEW_ROWS
from nemo_adapt.train.setup import Trainer
from nemo_adapt.train.together import first_rank_does

SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}
"""The optimizer's format that loads at another TP, PP or DP (the others fail there, megatron-core 0.16.1).

Megatron is given a copy each time: it notes the process group in it, which must not outlive the group."""
FULL = 1 << 20
"""A disk with fewer free bytes is full: writing takes what there is before it fails."""
DAMAGED = ".damaged"


@dataclass
class Saver:
    """Saves into ``folder`` as ``iter_0000100``, one checkpoint at a time. All methods are collectives."""

    folder: Path
    fence: Fence
    keep: int
    """Newest checkpoints that are kept; the best one is kept beside them."""
    wait: bool = False
    """Do not train on while a checkpoint is written."""
    _queue: AsyncCallsQueue = field(default_factory=AsyncCallsQueue)
    _writing: tuple[Path, Path, float | None] | None = None
    """The folder that is being written, its name when it is whole, and its score if that is the best."""

    def save(self, trainer: Trainer, progress: dict[str, Any], best_score: float | None = None) -> None:
        """Begin to save the state at ``progress["step"]``; what was being saved before is finished first.

        ``best_score``: its bits per byte, if no checkpoint has fewer.
        """
        self.finish()
        place = self.folder / f"iter_{progress['step']:07d}"
        partial = place.with_name(f"{place.name}.{self.fence.token}.partial")
        first_rank_does(self._begin, partial)
        model = _without_new_rows(_model_state(trainer.chunks))
        state = {"model": model, **_optimizer_state(trainer, is_loading=False)}
        try:
            request = dist_checkpointing.save({**state, "progress": progress}, str(partial), async_sharded_save=True)
            self._queue.schedule_async_request(request)
            self._writing = (partial, place, best_score)
            if self.wait:
                self.finish()
        except CheckpointException as error:
            self._fail(partial, error)
        except (OSError, RuntimeError) as error:  # of the first rank's small files: the others do not know
            raise UserError(f"{partial.parent}: a checkpoint could not be written: {error}") from None

    def beats_all(self, bits_per_byte: float) -> bool:
        """Whether no checkpoint has scored so well."""
        self.finish()
        return bool(first_rank_does(lambda: bits_per_byte < best(self.folder)[1]))

    def look(self) -> None:
        """Put the checkpoint that is being written in its place if it is whole by now."""
        if self._writing:
            self._settle(blocking=False)

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        if self._writing:
            self._settle(blocking=True)

    def _settle(self, blocking: bool) -> None:
        assert self._writing
        partial, place, best_score = self._writing
        try:
            done = self._queue.maybe_finalize_async_calls(blocking)
        except CheckpointException as error:
            self._fail(partial, error)
        if done:
            self._writing = None
            first_rank_does(self._put, partial, place, best_score)

    def _begin(self, partial: Path) -> None:
        self.fence.check()
        partial.mkdir(parents=True)

    def _put(self, partial: Path, place: Path, best_score: float | None) -> None:
        """Give the folder its name; delete what is older than ``keep``, and what other starts left half-written."""
        sizes = {file.name: file.stat().st_size for file in partial.iterdir()}
        write_json(partial / FILES, sizes)
        self.fence.check()
        shutil.rmtree(place, ignore_errors=True)  # of a step that was trained again
        partial.rename(place)
        if best_score is not None:
            write_json(self.folder / BEST, {"name": place.name, "bits_per_byte": best_score})
        kept = best(self.folder)[0]
        for old in complete(self.folder)[: -max(1, self.keep)]:
            if old.name != kept:
                shutil.rmtree(old)
        for left in self.folder.glob("iter_*.partial"):
            shutil.rmtree(left, ignore_errors=True)

    def _fail(self, partial: Path, error: CheckpointException) -> NoReturn:
        """Say why a checkpoint could not be written; what there was before stays."""
        self._writing = None
        reasons = "; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))
        if shutil.disk_usage(partial.parent).free < FULL:  # torch's writer only says that it is not where it should be
            reasons = "No space left on device"
        said = [f"{partial.parent}: a checkpoint could not be written: {reasons}"]
        dist.broadcast_object_list(said)  # only the first rank knows
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{said[0]}. The one before is whole: run the same command to go on from it") from None


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that are damaged are said, and renamed so that nobody takes them.

    For the first rank alone.
    """
    for place in reversed(complete(folder)):
        wrong = damage(place)
        if not wrong:
            return place
        shutil.rmtree(place.with_name(place.name + DAMAGED), ignore_errors=True)
        place.rename(place.with_name(place.name + DAMAGED))
        say(f"{place} is damaged ({wrong}): kept as {place.name}{DAMAGED}; looking for the one before")
    return None


def load_model(checkpoint: Path, chunks: list[Any]) -> dict[str, Any]:
    """Load the weights into the bare model ``chunks``, and return the saved progress."""
    state = dist_checkpointing.load({"model": _model_state(chunks)}, str(checkpoint))
    for number, chunk in enumerate(chunks):
        chunk.load_state_dict(state["model"][str(number)])
    return dict(state["progress"])


def load_optimizer(checkpoint: Path, trainer: Trainer) -> None:
    """Load optimizer and schedule, in the phase in which they were saved."""
    wanted = _optimizer_state(trainer, is_loading=True)
    state = dist_checkpointing.load(wanted, str(checkpoint))
    trainer.scheduler.load_state_dict(state["scheduler"])
    devices.load_optimizer_state(trainer.optimizer, state["optimizer"], trainer.scheduler.num_steps)


def _model_state(chunks: list[Any], **how: bool) -> dict[str, Any]:
    """Every parameter as Megatron shards it; also new rows, while they are parameters of their own."""
    return {str(number): chunk.sharded_state_dict(metadata=SHARDING | how) for number, chunk in enumerate(chunks)}


def _without_new_rows(model: dict[str, Any]) -> dict[str, Any]:
    """New rows are in the tables: only the optimizer's state is theirs alone."""
    return {
        number: {name: tensor for name, tensor in state.items() if not name.startswith(NEW_ROWS)}
        for number, state in model.items()
    }


def _optimizer_state(trainer: Trainer, is_loading: bool) -> dict[str, Any]:
    """State of what is trained. Layers have keys of their own: as parts of one tensor all of them would have to be
    there, and a phase may train some."""
    model = _model_state(trainer.chunks, non_homogeneous_layers=True)
    return {
        "optimizer": trainer.optimizer.sharded_state_dict(model, is_loading=is_loading, metadata=dict(SHARDING)),
        "scheduler": trainer.scheduler.state_dict(),
    }
