"""Training: nemo_adapt over Megatron against a plain transformers loop, tokens per second and memory, same run.

    python benchmarks/train.py [--quick] [--steps N] [--size NAME] [--uncompiled]

Contestants get the same weights, the same batches (random tokens, by Zipf's law), AdamW with the same settings,
gradients clipped to 1 and a cosine schedule. Each has its own processes. They take turns of one step, so that other
load on the machine affects all of them; `--steps` are counted (default 8) after 5 that are not, whose losses must
agree. Shown are the best and the median tokens per second of the steps. Nothing but steps is timed.

- `nemo_adapt`: the loop of the stage `train` (batches, schedules, optimizer), at one rank or two;
- `transformers`: `LlamaForCausalLM` with transformers' `sdpa` attention, causal without a mask,
  `torch.optim.AdamW(fused=True)`, `clip_grad_norm_`, the same micro batches.

On a CPU in fp32: models of 6 layers x 256 and 8 layers x 512 (heads of 64, FFN 8/3, vocabulary 32,000, untied),
sequences of 256, 16 and 8 of them a step in micro batches of 4; one process with two threads and with one, and two
ranks of one thread (TP2, DP2, CP2, and PP2 with as many layers on both stages, or one on the last, which also has the
output layer). Then, with two threads, only the last 2,000 rows of both tables are trained: with
our phase `new_rows`, and in the transformers loop by setting the gradients of the tables' other rows to zero.
`--quick`: the smaller model, 4 sequences a step, 3 steps.

On a GPU: models shaped like Llama 3.2 1B and 3B in bf16, sequences of 4,096, against the transformers loop with
torch.compile and flash kernels. Its weights and Adam's moments are bf16, the fastest setting of a plain loop;
nemo_adapt has fp32 master weights, moments and gradients. Contestants have the card one at a time, in two rounds. MFU
is relative to the card's measured rate of matrix products (`devices.matmul_rate`) and, for a known card, to the peak in
its data sheet, as in published MFUs. `--uncompiled` adds nemo_adapt without torch.compile (`machine/fusion.py`).
Micro batches are the largest that fit on a card of 80 GB by our plan. `--quick`: one round, of the 1B unless `--size`
names another.

Most of a GPU run is not timed: models are made and converted, loops start and compile. If a call is limited to ten
minutes, use one per model: `--size 1B`, then `--size 3B`.

A model with a contestant that fails or does not answer gets no row; the others are still run and summarized, and the
last line names the failure.
"""

import argparse
import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peers import training_loops
from peers.training_loops import Contestant, Size

from nemo_adapt import devices
from nemo_adapt.machine.facts import versions

LOOPS = training_loops.__file__

NEW_ROWS = 2000
"""New rows of a table when only these are trained."""
WARM_UP = 5
"""Steps that are not timed; their losses are compared."""
CLOSE = {"fp32": 1e-4, "bf16": 5e-2}
"""Tolerance of those losses in nats per token."""
PAUSE = 0.3
"""Seconds between turns, in which the threads of the previous contestant stop spinning."""
PATIENCE = 20
"""Seconds that a process may take to exit."""
ANSWER_LIMIT = 300
"""Seconds for a step: the first one waits for a process that starts, reads its model and compiles."""
DATA_SHEETS = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "B200": 2250e12}
"""Peak FLOP/s of dense bf16 matrix products (NVIDIA's data sheets, SXM)."""
OTHER_CARDS = {"PCIe", "NVL", "MIG"}
"""Words in the names of cards that are slower than the SXM version."""


CPU_SIZES = (
    Size("6 x 256", 6, 256, 4, 4, 704, 32_000, False, 256, 16, 4),
    Size("8 x 512", 8, 512, 8, 8, 1408, 32_000, False, 256, 8, 4),
)
GPU_SIZES = (
    Size("1B", 16, 2048, 32, 8, 8192, 128_256, True, 4096, 16, 4, "bf16"),
    Size("3B", 28, 3072, 24, 8, 8192, 128_256, True, 4096, 8, 1, "bf16"),
)


class Failed(Exception):
    """A size that could not be measured; the first line of the message names the contestant."""


@dataclass
class Found:
    """The measurements of a contestant's steps."""

    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_mib: list[int] = field(default_factory=list)
    """Peak memory of each process."""
    matmul_rate: float = 0.0

    def rates(self, tokens: int) -> tuple[float, float]:
        """Return tokens per second: best, median."""
        return tokens / min(self.seconds), tokens / statistics.median(self.seconds)


class Running:
    """The running processes of a contestant."""

    def __init__(self, who: Contestant, size: Size, place: Path, steps: int) -> None:
        self.who, self.found = who, Found()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = json.dumps({"size": asdict(size), "who": asdict(who), "place": str(place), "steps": steps})
        world = {"WORLD_SIZE": str(who.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        threads = {"OMP_NUM_THREADS": str(who.threads), "MKL_NUM_THREADS": str(who.threads)}
        compiler = {} if who.compiled else {"TORCH_COMPILE_DISABLE": "1"}
        self.errors = [tempfile.TemporaryFile("w+") for _ in range(who.ranks)]  # noqa: SIM115
        self.processes = [
            subprocess.Popen(
                [sys.executable, LOOPS, given],
                env={**os.environ, **world, **threads, **compiler, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            for rank, errors in enumerate(self.errors)
        ]

    def step(self, counts: bool) -> None:
        """Make a step, whose time is that of the slowest rank; ``counts``: whether it is timed."""
        for process in self.processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # the process has ended; `_answers` reports why
                process.stdin.write("step\n")
                process.stdin.flush()
        answers = self._answers()
        if counts:
            self.found.seconds.append(max(each["seconds"] for each in answers))
        else:
            self.found.losses.append(answers[0]["loss"])
        time.sleep(PAUSE)

    def end(self) -> Found:
        """Collect the final measurements and end the processes."""
        for process in self.processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        answers = self._answers()
        self.found.peak_mib = [each["peak_mib"] for each in answers]
        self.found.matmul_rate = answers[0]["matmul_rate"]
        for process in self.processes:
            process.wait(PATIENCE)
        return self.found

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _answers(self) -> list[dict[str, Any]]:
        waiting = {process.stdout: rank for rank, process in enumerate(self.processes) if process.stdout}
        lines, until = ["" for _ in self.processes], time.monotonic() + ANSWER_LIMIT
        while waiting:  # in any order: a rank whose peer has ended never answers
            ready = select.select(list(waiting), [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                raise Failed(f"{self.who} gave no answer in {ANSWER_LIMIT} seconds")
            for stream in ready:
                rank = waiting.pop(stream)
                lines[rank] = stream.readline()
                if not lines[rank]:
                    self.errors[rank].seek(0)
                    raise Failed(f"{self.who} failed:\n{self.errors[rank].read()[-2000:]}")
        return [json.loads(line) for line in lines]


def turns(size: Size, contestants: Sequence[Contestant], place: Path, steps: int) -> list[Found]:
    """Let the contestants make ``WARM_UP`` and then ``steps`` steps in turn."""
    running: list[Running] = []
    try:
        for who in contestants:
            running.append(Running(who, size, place, WARM_UP + steps))
        for step in range(WARM_UP + steps):
            for each in running:
                each.step(step >= WARM_UP)
        return [each.end() for each in running]
    finally:
        for each in running:
            each.kill()


def alone(size: Size, contestants: Sequence[Contestant], place: Path, steps: int, rounds: int) -> list[Found]:
    """Do the same if only one contestant fits at a time: all its steps, then the next contestant, ``rounds`` times.

    Results are printed at once, as the next contestant may fail.
    """
    found = [Found() for _ in contestants]
    for number in range(1, rounds + 1):
        for each, who in zip(found, contestants, strict=True):
            (now,) = turns(size, [who], place, steps)
            each.seconds += now.seconds
            each.losses, each.peak_mib, each.matmul_rate = now.losses, now.peak_mib, now.matmul_rate
            best, median = now.rates(size.tokens)
            print(f"{size.name}, round {number}: {who}: {best:,.0f} tokens/s best, {median:,.0f} median", flush=True)
    return found


def report(size: Size, contestants: Sequence[Contestant], found: Sequence[Found]) -> list[str]:
    """Print the results, each relative to the first; return the ratios. Raises ``Failed`` if losses differ."""
    print(f"{size.name}: {size.tokens:,} tokens a step in micro batches of {size.micro_batch} x {size.seq}")
    first = found[0].rates(size.tokens)
    ratios = []
    for who, facts in zip(contestants, found, strict=True):
        best, median = facts.rates(size.tokens)
        memory = " + ".join(f"{mib:,}" for mib in facts.peak_mib)
        says = f"{best:,.0f} tokens/s best, {median:,.0f} median, {memory} MiB"
        if facts.matmul_rate:
            says += f", {used(best * flops_of(size), facts.matmul_rate, torch.cuda.get_device_name())}"
        print(f"  {who}: {says}", flush=True)
        if facts is not found[0]:
            ratio = f"{first[0] / best:.2f}x {who} (median {first[1] / median:.2f}x)"
            ratios.append(f"{size.name}: {contestants[0]} {ratio}")
    apart = max(abs(a - b) for each in found[1:] for a, b in zip(each.losses, found[0].losses, strict=True))
    learnt = f"loss {found[0].losses[0]:.3f} to {found[0].losses[-1]:.3f}"
    print(f"  losses of {WARM_UP} steps: at most {apart:.1e} apart ({learnt})")
    if apart > CLOSE[size.precision]:
        raise Failed(f"the losses are more than {CLOSE[size.precision]:g} apart: they did not learn the same")
    return ratios


def used(reached: float, matmul_rate: float, card: str) -> str:
    """Format the FLOP/s reached, and their fractions of the measured rate and of the data sheet's peak."""
    shares = f"{reached / matmul_rate:.1%} of the measured {matmul_rate / 1e12:.4g}"
    if peak := data_sheet(card):
        shares += f", {reached / peak:.1%} of the data sheet's {peak / 1e12:.4g}"
    return f"{reached / 1e12:.4g} TFLOP/s (MFU {shares})"


def data_sheet(card: str) -> float:
    """Return the peak FLOP/s of the card with this name in the driver; 0.0: unknown."""
    words = set(re.findall(r"\w+", card))  # entire words: a GB200 is not a B200
    return 0.0 if words & OTHER_CARDS else next((DATA_SHEETS[word] for word in words & DATA_SHEETS.keys()), 0.0)


def flops_of(size: Size) -> float:
    """Return the FLOPs of a forward and backward pass per token."""
    from nemo_adapt.families.family import Shape
    from nemo_adapt.families.settings import RMS_GATED
    from nemo_adapt.model.flops import flops_per_token

    head = size.hidden // size.heads
    shape = Shape(
        size.layers, size.hidden, size.heads, size.kv_heads, head, size.ffn, size.vocab, size.seq, size.tied, 1e-5,
        transformer=RMS_GATED,
    )  # fmt: skip
    return flops_per_token(shape, size.seq)


def on_cpu(size: Size, steps: int) -> Iterator[str]:
    """Measure the contestants of a size in the CPU part; yield the ratios."""
    ours = Contestant("nemo_adapt", 2)
    pairs = [replace(ours, threads=1, **{layout: 2}) for layout in ("tp", "dp", "cp")]
    for last in (size.layers // 2, 1):  # the output layer computes as much as 10 layers of 6 x 256, or 5 of 8 x 512
        pairs.append(replace(ours, threads=1, stage_layers=(size.layers - last, last)))
    two = [ours, Contestant("transformers", 2), *pairs]
    one = [replace(each, threads=1) for each in two[:2]]
    with tempfile.TemporaryDirectory() as place:
        made_ready(size, Path(place))
        rows = replace(size, name=f"{size.name}, new rows", new_rows=NEW_ROWS)
        for what, contestants in ((size, two), (size, one), (rows, two[:2])):
            yield from report(what, contestants, turns(what, contestants, Path(place), steps))


def on_gpu(size: Size, steps: int, rounds: int, uncompiled: bool) -> Iterator[str]:
    """Measure the contestants of a size in the GPU part; yield the ratios."""
    contestants = [Contestant("nemo_adapt", 1), Contestant("transformers", 1)]
    contestants += [Contestant("nemo_adapt", 1, compiled=False)] * uncompiled
    with tempfile.TemporaryDirectory() as place:
        made_ready(size, Path(place))
        yield from report(size, contestants, alone(size, contestants, Path(place), steps, rounds))


def chosen(sizes: Sequence[Size], name: str | None) -> Sequence[Size]:
    """Return all sizes, or the one called ``name``."""
    found = [size for size in sizes if name in (None, size.name)]
    if not found:
        raise SystemExit(f"--size {name!r} is none of {', '.join(size.name for size in sizes)}")
    return found


def made_ready(size: Size, place: Path) -> None:
    """Run ``prepare`` in a separate process, so that its memory is freed."""
    given = json.dumps({"size": asdict(size), "place": str(place)})
    if subprocess.run([sys.executable, LOOPS, given], check=False, stdout=subprocess.DEVNULL).returncode:
        raise Failed("its model could not be made")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, help="steps that count (default 8, quick 3)")
    parser.add_argument("--size", help="one model alone, as '8 x 512' or 3B")
    parser.add_argument("--uncompiled", action="store_true", help="on a GPU: also without torch.compile")
    arguments = parser.parse_args()
    steps = arguments.steps or (3 if arguments.quick else 8)
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if devices.on_gpu():
        print(f"device: {torch.cuda.get_device_name()}")
        sizes = chosen(GPU_SIZES, arguments.size or (GPU_SIZES[0].name if arguments.quick else None))
        measured = {size.name: on_gpu(size, steps, 1 if arguments.quick else 2, arguments.uncompiled) for size in sizes}
    else:
        quick = [replace(CPU_SIZES[0], global_batch=4, micro_batch=2)]
        sizes = quick if arguments.quick else chosen(CPU_SIZES, arguments.size)
        measured = {size.name: on_cpu(size, steps) for size in sizes}
    summed_up(measured)


def summed_up(measured: dict[str, Iterator[str]]) -> None:
    """Measure all sizes and print their ratios, even if a size fails; exit with the failures."""
    ratios, failed = [], []
    try:
        for name, found in measured.items():
            try:
                for ratio in found:
                    ratios.append(ratio)  # one by one, to keep those before a failure
            except Failed as failure:
                print(f"{name}: {failure}", flush=True)
                failed.append(f"{name}: {str(failure).splitlines()[0].rstrip(':')}")
    finally:
        print(f"summary: {'; '.join(ratios) or 'nothing to compare'}", flush=True)
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
