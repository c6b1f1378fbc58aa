"""Code of the ranks in tests of saving: a step, a save whose files are held back, what each rank writes and reads."""

import copy
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
import torch.distributed as dist
from helpers.folders import Folders
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing import ShardedTensor, state_dict_utils
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import is_main_replica
from megatron.core.dist_checkpointing.strategies import filesystem_async
from ranks.model_bodies import load_chunks
from ranks.training_bodies import data, new_row_range

from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases
from nemo_adapt.errors import UserError
from nemo_adapt.model.weights import SHARDED, load_weights, sharded_weights
from nemo_adapt.train import checkpoints, loop, state
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.metrics import Metrics, MetricsSettings


@dataclass
class Saved:
    """Observations on one rank."""

    children: int
    """Child processes while its files were being written."""
    settled_early: bool
    """Whether the saver took unwritten files for complete."""
    numbers: int
    """Elements of optimizer state that this rank requests when loading it."""
    parameters: int
    same: bool
    """Whether the loaded state is that at the time of the save."""


def record_metrics(rank: int, folder: Path, scores: bool) -> str:
    """Record a step, or scores; return the error that this rank gets."""
    progress = {"step": 0, "phase": 1, "tokens": 0, "bytes": 0, "seconds": 0.0}
    settings = MetricsSettings(steps=1, every=1, tokens=10, flops=[10.0], ranks=2)
    try:
        with Metrics(folder, progress, settings, quiet=rank > 0) as metrics:
            metrics.record_scores({"tr": 1.0}) if scores else metrics.add_step(1.0, 1.0, 1.0, 0.1, 1.0)
    except (OSError, UserError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def change_after_saving(
    rank: int, config: Config, folders: Folders, vocab: int, out: Path, off_by: float = 0.0
) -> Saved:
    """Save into ``out``, change all of the state before a file is written, and load it again.

    ``off_by`` is added to one element of the state that the loaded one is compared with.
    """
    chunks = load_chunks(config, folders)
    out.mkdir(exist_ok=True)
    saver = checkpoints.Saver(out, Fence.claim(out), 100)
    go = threading.Event()
    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        trainer = next(steps).trainer
        states = _states(trainer)
        with files_wait_for(go):
            saver.save(trainer, {"step": 1})
        trainer.gather()  # no effect, if the save has gathered the weights as it must
        before = _all(trainer)
        before[-1].view(-1)[0] += off_by
        assert all(torch.equal(old, new) for old, new in zip(states, _states(trainer), strict=True))
        with torch.no_grad():
            for tensor in _live(trainer):
                tensor.fill_(7.0)
        saver.poll()
        settled_early, children = saver._writing is None, len(psutil.Process().children())
        threading.Timer(3 * checkpoints.PAUSE, go.set).start()  # after the saver's first poll
        saver.finish()
        wanted = state.optimizer_state(trainer, is_loading=True)["optimizer"]
        numbers = sum(part.data.numel() for part in nested_values(wanted) if isinstance(part, ShardedTensor))
        state.load_model(out / "iter_0000001", chunks)
        state.load_optimizer(out / "iter_0000001", trainer)
        same = all(torch.equal(old, new) for old, new in zip(before, _all(trainer), strict=True))
        parameters = sum(parameter.numel() for parameter in chunks[0].parameters())
        return Saved(children, settled_early, numbers, parameters, same)


def save_twice(rank: int, config: Config, folders: Folders, vocab: int, out: Path, seconds: float) -> list[float]:
    """Return the seconds that each of two saves reports to have waited, when the first takes ``seconds`` to write."""
    chunks = load_chunks(config, folders)
    out.mkdir(exist_ok=True)
    saver, go = checkpoints.Saver(out, Fence.claim(out), 100), threading.Event()
    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        trainer = next(steps).trainer
        with files_wait_for(go):
            waited = [saver.save(trainer, {"step": 1})]
        threading.Timer(seconds, go.set).start()
        waited.append(saver.save(trainer, {"step": 2}))
        saver.finish()
        return waited


def checked_saves(rank: int, config: Config, folders: Folders, vocab: int, out: Path) -> list[int]:
    """Return how often Megatron has compared the shards of all ranks after each of three saves: two of one phase, and
    one of the next."""
    chunks, calls, found = load_chunks(config, folders), list[int](), list[int]()
    out.mkdir(exist_ok=True)
    saver, gather = checkpoints.Saver(out, Fence.claim(out), keep=3), state_dict_utils.determine_global_metadata
    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        trainer = next(steps).trainer
        with mock.patch.object(state_dict_utils, gather.__name__, lambda *given: calls.append(1) or gather(*given)):
            for step, each in enumerate((trainer, trainer, copy.copy(trainer)), start=1):
                saver.save(each, {"step": step})
                found.append(len(calls))
        saver.finish()
    return found


def save_while_deleting(rank: int, config: Config, folders: Folders, vocab: int, out: Path) -> list[list[str]]:
    """Return the names in ``out`` once a second checkpoint is published, the first being deleted, and at the end."""
    chunks = load_chunks(config, folders)
    out.mkdir(exist_ok=True)
    saver, go, delete = checkpoints.Saver(out, Fence.claim(out), keep=1), threading.Event(), checkpoints.delete
    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        trainer = next(steps).trainer
        saver.save(trainer, {"step": 1})
        saver.finish()
        with mock.patch.object(checkpoints, "delete", lambda old: go.wait(20) and delete(old)):
            saver.save(trainer, {"step": 2})
            while saver._writing:
                saver.poll()
        meanwhile = sorted(path.name for path in out.glob("iter_*"))
        dist.barrier()
        threading.Timer(0.2, go.set).start()
        saver.finish()
        dist.barrier()
        return [meanwhile, sorted(path.name for path in out.glob("iter_*"))]


def save_unlisted(rank: int, config: Config, folders: Folders, vocab: int, out: Path) -> int:
    """Save while each rank sees only its own files with tensors, as on NFS where those of other nodes appear later.
    Return how often this rank has listed a folder."""
    chunks = load_chunks(config, folders)
    out.mkdir(exist_ok=True)
    saver, listed, lists = checkpoints.Saver(out, Fence.claim(out), 100), Path.glob, count()

    def own(folder: Path, pattern: str) -> list[Path]:
        next(lists)
        return [path for path in listed(folder, pattern) if path.suffix != ".distcp" or f"__{rank}_" in path.name]

    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        trainer = next(steps).trainer
        with mock.patch.object(Path, "glob", own):
            saver.save(trainer, {"step": 1})
            saver.finish()
    return next(lists)


@contextmanager
def files_wait_for(go: threading.Event) -> Iterator[None]:
    """Hold back the files of saves begun in the context until ``go`` is set."""
    write = filesystem_async._write_item

    @wraps(write)  # its signature is inspected
    def late(*arguments: Any, **named: Any) -> Any:
        assert go.wait(60)
        return write(*arguments, **named)

    with mock.patch.object(filesystem_async, "_write_item", late):
        yield


def who_saves(rank: int, config: Config, folders: Folders, vocab: int) -> int:
    """Return the number of elements of the model's weights that this rank writes."""
    chunks = load_chunks(config, folders)
    with closing(loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab))) as steps:
        weights = state.weights_to_save(next(steps).trainer.chunks)
        mine = [
            part for part in nested_values(weights) if isinstance(part, SHARDED) and is_main_replica(part.replica_id)
        ]
        return sum(part.data.numel() for part in mine)


def what_is_read(rank: int, config: Config, folders: Folders) -> tuple[dict[str, int], dict[str, list[int]], list[str]]:
    """Return the elements that this rank reads of each weight, the rows of each table, and the names of all weights."""
    weights: dict[str, int] = {}
    tables: dict[str, list[int]] = {}
    load, rows = dist_checkpointing.load, Checkpoint.rows

    def seen(state: Any, *arguments: Any) -> Any:
        weights.update({name: value.data.numel() for name, value in state["model"]["0"].items()})
        return load(state, *arguments)

    def seen_rows(self: Checkpoint, key: str, start: int, stop: int) -> torch.Tensor:
        tables.setdefault(key, []).extend(range(start, stop))
        return rows(self, key, start, stop)

    with mock.patch.object(dist_checkpointing, "load", seen), mock.patch.object(Checkpoint, "rows", seen_rows):
        chunks = load_chunks(config, folders)
    return weights, tables, [name for name, _ in chunks[0].named_parameters()]


def load_one_weight(rank: int, config: Config, folders: Folders) -> bool:
    """Return whether loading a single weight restores it after it was overwritten."""
    chunks = load_chunks(config, folders)
    keys = {value.key for state in sharded_weights(chunks).values() for value in state.values()}
    weight = chunks[0].decoder.final_layernorm.weight.detach()
    before = weight.clone()
    weight.fill_(7.0)
    load_weights(chunks, folders.checkpoint, left_out=keys - {"decoder.final_layernorm.weight"})
    return torch.equal(weight, before)


def _live(trainer: Any) -> list[torch.Tensor]:
    """Return the live weights, master weights and moments of a training."""
    return [*(parameter for chunk in trainer.chunks for parameter in chunk.parameters()), *_of_optimizers(trainer)]


def _of_optimizers(trainer: Any) -> list[torch.Tensor]:
    """Return this rank's shards of master weights and moments."""
    optimizers = [part.optimizer for part in getattr(trainer.optimizer, "chained_optimizers", [trainer.optimizer])]
    groups = [group["params"] for optimizer in optimizers for group in optimizer.param_groups]
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    return [
        *(parameter for group in groups for parameter in group),
        *(state[name] for state in states for name in ("exp_avg", "exp_avg_sq")),
    ]


def _all(trainer: Any) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in _live(trainer)]


def _states(trainer: Any) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in _of_optimizers(trainer)]
