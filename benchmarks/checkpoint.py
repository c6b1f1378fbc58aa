"""Saving and loading a training: nemo_adapt against megatron-core's own method, seconds and memory, same run.

    python benchmarks/checkpoint.py [--quick] [--dp N] [--saves N]

A training of a model of 8 layers x 512 in bf16 (vocabulary 32,000, untied, 58 million parameters; `--quick`: 6 x 256)
on N data-parallel ranks (default 2) of one thread with the distributed optimizer. After each step everything is saved
asynchronously, during the next step. Both contestants train the same model and write checkpoints that load at any TP,
PP and DP:

- `nemo_adapt`: `train.checkpoints.Saver`;
- `megatron-core`: the same state in its "fully_reshardable" format, with its `AsyncCallsQueue`, without our patches
  (`nemo_adapt.patches.checkpoints: save_own_parts`, `write_in_threads`).

Shown are medians over the saves, of the slowest rank: how long training is blocked, a step during writing against one
without, and the time until the checkpoint is complete; the seconds to load the optimizer, and by how much a rank's peak
memory (VmHWM) then exceeds its memory before; and the seconds in which a resumed training compares the checksums of the
checkpoint's tensors (weights, master weights and moments). What was loaded is compared bit by bit.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from peers.training_loops import Samples, Size, prepare, train_config

from nemo_adapt import devices
from nemo_adapt.config import Config
from nemo_adapt.machine.facts import versions

SIZES = (
    Size("8 x 512", 8, 512, 8, 8, 1408, 32_000, False, 256, 8, 4, "bf16"),
    Size("6 x 256", 6, 256, 4, 4, 704, 32_000, False, 256, 8, 4, "bf16"),
)
OURS, PEER = CONTESTANTS = ("nemo_adapt", "megatron-core")


@dataclass
class Found:
    """Measurements of a rank: seconds of steps and saves, seconds and MiB of a load, seconds in which the checksums are
    compared, whether the load restored the state."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    stands_still: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    load: float = 0.0
    load_mib: float = 0.0
    check: float = 0.0
    same: bool = False


@contextlib.contextmanager
def seconds(into: list[float]) -> Iterator[None]:
    """Append the seconds spent in the context to ``into``."""
    began = time.perf_counter()
    yield
    into.append(time.perf_counter() - began)


def peak_mib(forget: bool = False) -> float:
    """Return this process's peak memory in MiB since the last reset; ``forget`` resets it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    if forget:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5)
    return peak


def rank(number: int, contestant: str, size: Size, place: Path, dp: int, saves: int, answers: Any) -> None:
    """Run one of the contestant's ranks; put its ``Found`` into ``answers``."""
    os.environ.update(
        RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE=str(dp), OMP_NUM_THREADS="1", MASTER_ADDR="127.0.0.1"
    )
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.optimizer.distrib_optimizer import DistributedOptimizer

    shipped = [
        (owner, name, vars(owner)[name])
        for owner, name in (
            (DistributedOptimizer, "sharded_param_state_fully_reshardable"),
            (DistributedOptimizer, "load_parameter_state_from_fully_reshardable"),
            (filesystem_async.FileSystemWriterAsync, "write_preloaded_data_multiproc"),
            (filesystem_async, "_get_write_results_queue"),
        )
    ]
    from nemo_adapt.checkpoint.contents import damaged_contents
    from nemo_adapt.resize.adapted import load_adapted
    from nemo_adapt.train import loop
    from nemo_adapt.train.new_rows import RowRange
    from nemo_adapt.train.prepare import start_layout
    from nemo_adapt.train.state import load_optimizer

    config = Config(train=train_config(size))
    config.parallel.dp = dp
    layout = start_layout(config)
    if contestant == PEER:
        for owner, name, value in shipped:
            setattr(owner, name, value)
    chunks, _ = load_adapted(config, place / "model", place / "checkpoint", place / "tokenizer")
    token_bytes = torch.ones(size.vocab, dtype=torch.int64, device=devices.best_device())
    data = loop.TrainingData(Samples(size, 3 * (saves + 2) * size.global_batch), layout, token_bytes)
    steps = loop.run(chunks, config.train.phases, config.train, RowRange(size.vocab, size.vocab), data)
    out = place / "saved"
    save, finish = SAVERS[contestant](out)
    trainer = next(steps).trainer
    found = Found()
    for _ in range(saves):
        with seconds(found.alone):
            next(steps)
        with seconds(found.whole):
            with seconds(found.stands_still):
                save(trainer)
            with seconds(found.beside):
                next(steps)
            finish()
    save(trainer)
    finish()
    before = state(trainer)
    forget(trainer)
    peak_mib(forget=True)
    began, had = time.perf_counter(), peak_mib()
    newest = max(out.glob("*[0-9]"), key=lambda path: path.stat().st_mtime)
    load_optimizer(newest, trainer)
    found.load, found.load_mib = time.perf_counter() - began, peak_mib() - had
    began = time.perf_counter()
    if wrong := damaged_contents(newest, number, dp):
        raise SystemExit(f"{contestant}: {wrong}")
    found.check = time.perf_counter() - began
    found.same = all(torch.equal(old, new) for old, new in zip(before, state(trainer), strict=True))
    answers.put((number, asdict(found)))


def state(trainer: Any) -> list[torch.Tensor]:
    """Return copies of this rank's master weights and moments."""
    return [tensor.clone() for tensor in live(trainer)]


def forget(trainer: Any) -> None:
    """Overwrite this rank's master weights and moments."""
    with torch.no_grad():
        for tensor in live(trainer):
            tensor.fill_(7.0)


def live(trainer: Any) -> list[torch.Tensor]:
    """Return this rank's master weights and moments themselves."""
    states = trainer.optimizer.chained_optimizers[0].optimizer.state
    return [tensor for main, each in states.items() for tensor in (main, each["exp_avg"], each["exp_avg_sq"])]


Saving = tuple[Callable[[Any], None], Callable[[], None]]
"""A function that begins to save a trainer, and one that waits until that is done."""


def ours(out: Path) -> Saving:
    """Save as the stage ``train`` does."""
    from nemo_adapt.collectives import first_rank_does
    from nemo_adapt.train import checkpoints
    from nemo_adapt.train.fence import Fence

    first_rank_does(lambda: out.mkdir())
    saver, steps = checkpoints.Saver(out, Fence.claim(out), keep=1), iter(range(1, 1000))
    return lambda trainer: saver.save(trainer, {"step": next(steps)}), saver.finish


def peer(out: Path) -> Saving:
    """Save the same state as megatron-core's own training loop does."""
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies.async_utils import AsyncCallsQueue

    from nemo_adapt.collectives import first_rank_does
    from nemo_adapt.model.weights import sharded_weights
    from nemo_adapt.train.state import optimizer_state

    queue, steps = AsyncCallsQueue(), iter(range(1, 1000))

    def save(trainer: Any) -> None:
        folder = out / str(next(steps))
        first_rank_does(lambda: folder.mkdir(parents=True))
        model = sharded_weights(trainer.chunks)
        whole = {"model": model, **optimizer_state(trainer, is_loading=False), "progress": {"step": 1}}
        queue.schedule_async_request(dist_checkpointing.save(whole, str(folder), async_sharded_save=True))

    def finish() -> None:
        queue.maybe_finalize_async_calls(blocking=True)
        first_rank_does(lambda: [shutil.rmtree(old) for old in sorted(out.iterdir(), key=lambda p: int(p.name))[:-1]])

    return save, finish


SAVERS = dict(zip(CONTESTANTS, (ours, peer), strict=True))


def run(contestant: str, size: Size, place: Path, dp: int, saves: int) -> list[Found]:
    """Run a contestant's ranks and return their measurements."""
    context, port = mp.get_context("spawn"), 20_000 + os.getpid() % 20_000 + CONTESTANTS.index(contestant)
    os.environ["MASTER_PORT"] = str(port)
    answers = context.SimpleQueue()
    mp.spawn(rank, (contestant, size, place, dp, saves, answers), dp)
    shutil.rmtree(place / "saved")
    return [Found(**facts) for _, facts in sorted(answers.get() for _ in range(dp))]


def report(contestant: str, ranks: list[Found]) -> dict[str, float]:
    """Print a contestant's results and return them by name."""
    if not all(each.same for each in ranks):
        raise SystemExit(f"{contestant}: what was loaded is not what was saved")
    middle = {
        name: max(statistics.median(getattr(each, name)) for each in ranks)
        for name in ("stands_still", "whole", "beside", "alone")
    }
    middle |= {name: max(getattr(each, name) for each in ranks) for name in ("load", "load_mib", "check")}
    still, whole, beside, alone, load, load_mib, check = middle.values()
    print(
        f"  {contestant}: stands still {still:.2f} s, whole after {whole:.2f} s, beside it a step of {beside:.2f} s "
        f"({alone:.2f} s alone); load {load:.2f} s, +{load_mib:,.0f} MiB a rank; "
        f"checksums {check:.2f} s",
        flush=True,
    )
    return middle


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dp", type=int, default=2)
    parser.add_argument("--saves", type=int, help="default 5, quick 2")
    arguments = parser.parse_args()
    size, saves = SIZES[arguments.quick], arguments.saves or (2 if arguments.quick else 5)
    size = replace(size, global_batch=max(size.global_batch, 4 * arguments.dp))
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        prepare(size, Path(folder))
        print(f"{size.name}, DP{arguments.dp}, {saves} saves")
        found = {name: report(name, run(name, size, Path(folder), arguments.dp, saves)) for name in CONTESTANTS}
    ratios = (f"{name} {found[PEER][name] / found[OURS][name]:.2f}x" for name in ("stands_still", "whole", "load"))
    print(f"summary: {PEER} takes of {OURS}'s seconds: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
