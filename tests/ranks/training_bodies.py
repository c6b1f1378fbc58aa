"""Code of the ranks in tests of training: a few steps on fixed random tokens."""

import os
import weakref
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from helpers.folders import Folders
from megatron.core import parallel_state
from megatron.core.distributed.param_and_grad_buffer import _ParamAndGradBucketGroup
from ranks.model_bodies import load_chunks

from nemo_adapt import devices
from nemo_adapt.checkpoint.folders import checkpoint_name
from nemo_adapt.config import Config
from nemo_adapt.config.phases import phases
from nemo_adapt.errors import UserError
from nemo_adapt.model.build import start_parallel
from nemo_adapt.resize.adapted import adapted_shape, build_adapted
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.train import checkpoints, loop, setup
from nemo_adapt.train import state as train_state
from nemo_adapt.train.batches import BatchLayout, Boundaries
from nemo_adapt.train.fence import Fence
from nemo_adapt.train.new_rows import RowRange

SEQ = 16
SAMPLES = 80
BUCKET = 4000
"""Elements per bucket of the gradient buffers, each reduced separately: about a layer of the small models."""


@dataclass
class Trained:
    """Losses (nats per token), gradient norms and phase numbers by step; ``states``: this rank's parameters at the
    start and at the end of each phase."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    phases: list[int] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    """Learning rates as recorded, by step: without factors."""
    states: list[dict[str, torch.Tensor]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Elements of first moments in this rank's optimizer, by phase."""
    overlapped_reductions: int = 0
    """Gradient buckets whose reduction this rank started during its backward pass."""
    async_gathers: int = 0
    """Weight buckets whose all-gather this rank started asynchronously."""
    samples_read: int = 0
    live_trainers: int = 0
    """Trainers of earlier phases that are still in memory."""

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The parameters at the end."""
        return self.states[-1]


class Counted(list[dict[str, torch.Tensor]]):
    """Samples that count how many are read."""

    read = 0

    def __getitem__(self, number: Any) -> Any:
        self.read += 1
        return super().__getitem__(number)


def samples(vocab: int) -> Counted:
    """Return random samples like those of a data set; every third token is one of the last six, the new ones."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(0, vocab, (SAMPLES, SEQ + 1), generator=generator)
    tokens[:, ::3] = torch.randint(vocab - 6, vocab, tokens[:, ::3].shape, generator=generator)
    return Counted({"tokens": row[:-1], "labels": row[1:]} for row in tokens)


def data(config: Config, vocab: int) -> loop.TrainingData:
    """Return the samples with this rank's data-parallel layout."""
    dp_size, dp_rank = parallel_state.get_data_parallel_world_size(), parallel_state.get_data_parallel_rank()
    layout = BatchLayout(config.train.global_batch, config.train.micro_batch, dp_size, dp_rank)
    boundaries = Boundaries.of(config.train, vocab - 1)  # a frequent token as the end of documents
    token_bytes = torch.ones(vocab, dtype=torch.int32, device=devices.best_device())
    return loop.TrainingData(samples(vocab), layout, token_bytes, boundaries)


def train(
    rank: int, config: Config, folders: Folders, vocab: int, unmark_norms: bool = False, fewer_kept: int = 0
) -> Trained:
    """Train all phases; ``unmark_norms`` breaks sequence parallelism; ``fewer_kept``: see ``new_row_range``."""
    chunks = load_chunks(config, folders)
    if unmark_norms:
        for name, parameter in chunks[0].named_parameters():
            if "norm" in name:
                parameter.sequence_parallel = False
    new = new_row_range(folders, fewer_kept)
    answer = Trained(states=[state(chunks)])
    earlier: set[Any] = set()
    given = data(config, vocab)
    with small_buckets(answer):
        for made in loop.run(chunks, phases(config), config.train, new, given):
            note(answer, made)
            earlier.add(weakref.ref(made.trainer.wrapped[0]))
            if made.ends_phase:
                answer.sizes.append(optimizer_numbers(made.trainer))
                answer.states.append(state(chunks))
    answer.samples_read = given.samples.read
    answer.live_trainers = sum(reference() is not None for reference in earlier)
    return answer


def train_and_save(
    rank: int, config: Config, folders: Folders, vocab: int, out: Path, first: int, stop: int
) -> list[float]:
    """Train steps ``first + 1`` to ``stop`` and return their losses; if ``first`` is 0, save each step in ``out``, else
    resume from the checkpoint of step ``first`` there."""
    saves = range(0) if first else range(1, stop + 1)
    return train_part(rank, config, folders, vocab, out, first, stop, saves).losses


def train_part(
    rank: int, config: Config, folders: Folders, vocab: int, out: Path, first: int, stop: int, saves: Collection[int]
) -> Trained:
    """Train steps ``first + 1`` to ``stop``, from the checkpoint of step ``first`` in ``out`` unless that is 0; save
    ``saves`` of them there."""
    chunks = load_chunks(config, folders)
    restore = None
    if first:
        chunks = build_adapted(config, adapted_shape(folders.model, TokenMap.load(folders.tokenizer)))
        saved = out / checkpoint_name(first)
        assert train_state.load_model(saved, chunks)["step"] == first

        def restore(trainer: Any) -> None:
            train_state.load_optimizer(saved, trainer)

    saver = None
    if saves:
        out.mkdir(exist_ok=True)
        saver = checkpoints.Saver(out, Fence.claim(out), 100)
    answer = Trained()
    steps = loop.run(chunks, phases(config), config.train, new_row_range(folders), data(config, vocab), first, restore)
    with small_buckets(answer), closing(steps):
        for made in steps:
            note(answer, made)
            if saver and made.step in saves:
                saver.save(made.trainer, {"step": made.step})
            if made.step == stop:
                break
    if saver:
        saver.finish()
    return answer


@contextmanager
def small_buckets(answer: Trained) -> Iterator[None]:
    """Use buckets as small for the tiny model as Megatron's (40 million elements) are for a real one; count in
    ``answer`` those that are reduced during the backward pass and those that are gathered asynchronously."""
    start, gather = _ParamAndGradBucketGroup.start_grad_sync, _ParamAndGradBucketGroup.start_param_sync

    def counted(self: Any, *arguments: Any, **named: Any) -> None:
        answer.overlapped_reductions += torch._C._current_graph_task_id() >= 0  # a backward pass is running
        start(self, *arguments, **named)

    def gathered(self: Any, *arguments: Any, **named: Any) -> None:
        gather(self, *arguments, **named)
        answer.async_gathers += self.param_gather_handle is not None

    small = partial(setup.DistributedDataParallelConfig, bucket_size=BUCKET)
    with (
        mock.patch.object(setup, "DistributedDataParallelConfig", small),
        mock.patch.object(_ParamAndGradBucketGroup, "start_grad_sync", counted),
        mock.patch.object(_ParamAndGradBucketGroup, "start_param_sync", gathered),
    ):
        yield


def replaced(rank: int, folder: Path) -> str:
    """Return the error of a saver whose training was replaced by a later start."""
    start_parallel(Config().parallel, 1)
    earlier = Fence.claim(folder)
    (folder / "checkpoints").mkdir(exist_ok=True)
    Fence.claim(folder)
    saver = checkpoints.Saver(folder / "checkpoints", earlier, 2)
    try:
        saver.save(None, {"step": 4})  # type: ignore[arg-type]
    except UserError as error:
        return str(error)
    return "it saved"


def slow(rank: int, folder: Path, restarts: tuple[str, str]) -> str:
    """Return what the second of two starts of Slurm job 7 reports; ``restarts``: the restart count of each."""
    start_parallel(Config().parallel, 1)
    with mock.patch.dict(os.environ, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=restarts[0]):
        Fence.claim(folder)
    with mock.patch.dict(os.environ, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=restarts[1]):
        try:
            Fence.claim(folder).check()
        except UserError as error:
            return str(error)
    return "it has the folder"


def new_row_range(folders: Folders, fewer_kept: int = 0) -> RowRange:
    """Return the range of the new rows; ``fewer_kept`` of the kept rows are treated as new."""
    token_map = TokenMap.load(folders.tokenizer)
    return RowRange(token_map.source_vocab - fewer_kept, token_map.target_vocab)


def optimizer_numbers(trainer: Any) -> int:
    """Return the elements of first moments in this rank's optimizer."""
    parts = getattr(trainer.optimizer, "chained_optimizers", [trainer.optimizer])
    states = [state for part in parts if part.optimizer for state in part.optimizer.state.values()]
    return sum(state["exp_avg"].numel() for state in states)


def note(answer: Trained, made: loop.CompletedStep) -> None:
    answer.losses.append(made.result.nats / made.result.labels)
    answer.grad_norms.append(made.result.grad_norm)
    answer.phases.append(made.phase)
    answer.lrs.append(made.lr)


def state(chunks: list[Any]) -> dict[str, torch.Tensor]:
    """Return copies of all parameters by name; those of later chunks are prefixed with the chunk's number."""
    return {
        f"{number or ''}{name}": parameter.detach().clone()
        for number, chunk in enumerate(chunks)
        for name, parameter in chunk.named_parameters()
        if not name.startswith("new_rows")
    }
