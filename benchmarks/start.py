"""Starting ranks on one machine: `nemo-adapt train` against torchrun, seconds, processor seconds and memory, same run.

    python benchmarks/start.py [--quick] [--ranks 1 2 4] [--repeat N]

A training of one step of a tiny model on DP ranks of one thread: nearly all of it is the start. Contestants:

- `nemo-adapt`: `nemo-adapt train`, whose ranks are forks of one process that has imported what they need
  (`machine/fork_server.py`); on a GPU each rank imports for itself;
- `torchrun`: `torchrun --nproc-per-node=N -m nemo_adapt train`, where each rank imports for itself.

Shown are medians over N runs (default 3, `--quick` 1): seconds of the command, processor seconds of all its processes,
and the most memory of all of them at once, in which a page that several share counts once (PSS).
"""

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil
from command import command

from nemo_adapt.machine.facts import versions
from nemo_adapt.smallworld.make import make

LOOK_SECONDS = 0.1
PREPARED = ("tokenizer", "data", "convert")
OURS, PEER = CONTESTANTS = {
    "nemo-adapt": [sys.executable, "-m", "nemo_adapt"],
    "torchrun": [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "{}",
        "-m",
        "nemo_adapt",
    ],
}


@dataclass(frozen=True)
class Cost:
    """Of one command: its seconds, the processor seconds and most memory (MiB) of all its processes."""

    seconds: float
    processor: float
    memory: float


def words(name: str, ranks: int = 1) -> list[str]:
    """Return the settings of a run: one step on ``ranks`` data-parallel ranks."""
    return [
        "recipe=demo", "model.path=world/base", "data.folder=world", "tokenizer.new_tokens=100", f"run.name={name}",
        "train.seq_length=64", "train.global_batch=8", "train.micro_batch=1", "train.phases=[{steps: 1, lr: 1e-3}]",
        "parallel.tp=1", "parallel.sequence=false", f"parallel.dp={ranks}",
        "data.target=[world/text/tr.train.txt]", "data.replay=[world/text/en.train.txt]",
        "tokenizer.text=[world/text/tr.train.txt]",
    ]  # fmt: skip


def cost(arguments: list[str]) -> Cost:
    """Run a command and measure it; exit if it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = psutil.Popen(arguments, stdout=subprocess.DEVNULL)
    memory = 0.0
    while process.poll() is None:
        memory = max(memory, sum(map(shared_memory, [process, *descendants(process)])))
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - began
    with contextlib.suppress(ChildProcessError):  # of the fork server, which has become a child of this process
        while True:
            os.wait()
    if process.returncode:
        raise SystemExit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes below one; none if it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def shared_memory(process: psutil.Process) -> float:
    """Return a process's memory in MiB, of a shared page its part; 0 if it has just ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.memory_full_info().pss / 2**20
    return 0.0


def measure(ranks: int, repeat: int) -> dict[str, Cost]:
    """Return the medians of both contestants, which take turns."""
    found: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
    for _ in range(repeat):
        for name, start in CONTESTANTS.items():
            run = Path("runs") / name
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree("runs/prepared", run)
            found[name].append(cost([*(word.format(ranks) for word in start), "train", *words(name, ranks)]))
    return {
        name: Cost(*map(statistics.median, zip(*map(astuple, costs), strict=True))) for name, costs in found.items()
    }


def main() -> None:
    """Print a row for each number of ranks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeat", type=int)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER of linux/prctl.h: processes left behind become our children
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make(Path("world"), documents=1500, vocab=400, hidden=192, layers=2)
        for stage in PREPARED:
            command(stage, *words("prepared"))
        print(f"\n{versions()}\n\n| ranks | | seconds | processor seconds | memory, MiB |\n|---|---|---|---|---|")
        for ranks in options.ranks:
            found = measure(ranks, options.repeat or (1 if options.quick else 3))
            for name, each in found.items():
                print(
                    f"| {ranks} | {name} | {each.seconds:.1f} | {each.processor:.1f} | {each.memory:.0f} |", flush=True
                )
            ratios = [ours / peer for ours, peer in zip(astuple(found[OURS]), astuple(found[PEER]), strict=True)]
            print(f"| | ratio | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
