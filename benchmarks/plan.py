"""The memory that `nemo-adapt plan` predicts, against what the engine takes on a CPU.

    python benchmarks/plan.py [--quick]

Live tensors: small models (4 layers x 256, vocabulary 2,000, 256 tokens per micro batch) of several families and
layouts on real gloo ranks, as in the tests; weights, gradient buffers and optimizer state found by walking the trainer,
and the peak of all live tensors during a step (torch's dispatcher sees every new one, but not buffers inside kernels).
Of each pipeline stage, the rank that needs most is shown.

Resident memory: one process, a model of 8 layers x 1,024 with 32,000 tokens in fp32, sequences of 512, two in a micro
batch: the peak of the process after two steps, the second while a copy is being saved, minus its memory before the
model was built; and the same with a glibc setting that avoids gaps between allocations. `--quick` leaves it out.

Real models: the plan's predictions for published configurations.

Prints tables; writes them to benchmarks/results/plan.md unless `--quick`.
"""

# ruff: noqa: E402
import argparse
import os
import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # the tests measure the same

from distributed.test_plan_memory import CASES, FAMILIES
from helpers.plans_of_models import models_of, plan_config, settings
from helpers.rank_pool import RankPool
from ranks import plan_bodies

from nemo_adapt.config import Config, recipes
from nemo_adapt.config.phases import phases
from nemo_adapt.machine.facts import versions
from nemo_adapt.model.build import start_parallel
from nemo_adapt.plan import memory
from nemo_adapt.plan.command import plan_of
from nemo_adapt.plan.memory import GIB, Memory
from nemo_adapt.plan.model import Models, models
from nemo_adapt.plan.needs import room
from nemo_adapt.train.state import saved_state

RESULTS = HERE / "results" / "plan.md"
MIB = 2**20
FURTHER = {
    "sequences of 512": {"seq_length": 512, "micro_batch": 1},
    "tp2": {"parallel": {"tp": 2}},
    "tp2, one key-value head": {"parallel": {"tp": 2}, "hf": {"num_key_value_heads": 1}},
    "dp2": {"parallel": {"dp": 2}},
    "pp2, more micro batches": {"parallel": {"pp": 2}, "global_batch": 16},
    "cp2, documents apart": {"reset_attention": True, "parallel": {"cp": 2}, "distributed_optimizer": False},
    "the output layer": {"phase": "output"},
    "cp2, sequences cut": {"parallel": {"cp": 2, "tp": 2, "sequence": True}, "distributed_optimizer": False},
}
GAPS, GAPLESS = "MALLOC_MMAP_THRESHOLD_", "65536"
"""glibc setting that returns freed blocks to the system; by default glibc raises this threshold dynamically."""
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32_000,
}
PUBLISHED = {
    "Llama 3 70B, TP4 PP4 CP2, 128 x 8,192": ("llama3_70b", "h100_x64", []),
    "the same, 5 interleaved": ("llama3_70b", "h100_x64", ["parallel.virtual=5"]),
    "Llama 3 8B, TP1 CP2, 8,192": ("llama3_8b", "h100_x8", ["parallel.tp=1", "parallel.cp=2"]),
    "Llama 3 8B, TP1 CP4, 8,192": ("llama3_8b", "h100_x8", ["parallel.tp=1", "parallel.cp=4"]),
    "Llama 3 8B, TP1, 8,192, recomputed": ("llama3_8b", "h100_x8", ["parallel.tp=1", "train.recompute=true"]),
    "Llama 3 8B, TP1, 2,048": ("llama3_8b", "h100_x8", ["parallel.tp=1", "train.seq_length=2048"]),
    "Llama 2 7B, TP4, 32 x 1,024": ("llama2_7b", "a40_x4", []),
}
ALONE = ["tokenizer.new_tokens=0", "train.phases=[{train: all, tokens: 1000000000, lr: 1e-5}]"]


def main() -> None:
    """Run the benchmark: measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    tables = [live_tensors(), *([] if quick else [resident()]), published()]
    text = "\n\n".join(tables)
    print(text)
    if not quick:
        used = ", ".join(f"{name} {version}" for name, version in versions().items())
        how = f"`python benchmarks/plan.py`, {datetime.now(UTC):%Y-%m-%d}, two virtual cores. {used}."
        head = f"# What a plan says against what is measured\n\n{how}"
        RESULTS.write_text(f"{head}\n\n{text}\n", encoding="utf-8")


def live_tensors() -> str:
    """Return the table of small models."""
    lines = [
        "## Live tensors",
        "",
        "MiB planned / measured, and the planned total over the measured one.",
        "",
        "| | stage | weights | gradients | optimizer | kept, logits, working | saving | total | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    pools: dict[int, RankPool] = {}
    ratios = []
    try:
        for name, config, base in cases():
            count = config.parallel.ranks
            found = pools.setdefault(count, RankPool(count)).run(plan_bodies.measure, config, base, timeout=300)
            for each in memory.of_stages(base, config, phases(config)[0], on_gpu=False):
                of_stage = [rank for rank in found if rank.stage == each.stage]
                lines.append(row(name, each, max(of_stage, key=lambda rank: rank.total), ratios))
    finally:
        for pool in pools.values():
            pool.close()
    return "\n".join([*lines, "", f"{len(ratios)} ratios, {min(ratios):.3f} to {max(ratios):.3f}."])


def cases() -> Iterator[tuple[str, Config, Models]]:
    """Yield name, configuration and models: those of the tests and some more."""
    for name, case in {**CASES, **FURTHER}.items():
        case = dict(case)
        yield (
            name,
            plan_config(**{key: case[key] for key in case.keys() - {"hf", "new"}}),
            models_of(settings(**case.get("hf", {})), case.get("new", 0)),
        )
    for name in (*FAMILIES, "gemma", "mistral", "phi3"):
        for precision in ("bf16", "fp32"):
            yield f"{name}, {precision}", plan_config(precision=precision), models_of(settings(name))
    for name in FAMILIES:  # all-reduced gradients: gloo's reduce-scatter copies them, which would be the peak here
        shared = plan_config(parallel={"cp": 2}, distributed_optimizer=False)
        yield f"{name}, cp2", shared, models_of(settings(name))


def row(name: str, planned: Memory, found: plan_bodies.Measured, ratios: list[float]) -> str:
    """Return a line of the table; append its ratio to ``ratios``."""
    pairs = [
        (planned.weights, found.weights),
        (planned.gradients, found.gradients),
        (planned.optimizer, found.optimizer),
        (planned.of_step, found.peak),
        (planned.saving, found.saving),
        (planned.total, found.total),
    ]
    ratios.append(planned.total / found.total)
    shown = (f"{ours / MIB:.2f} / {theirs / MIB:.2f}" for ours, theirs in pairs)
    return f"| {name} | {planned.stage + 1} | {' | '.join(shown)} | {ratios[-1]:.3f} |"


def resident() -> str:
    """Return the table of resident memory of a larger model: by default, and without gaps between allocations."""
    base = models_of(settings(**LARGE))
    config = plan_config(precision="fp32", seq_length=512, micro_batch=2, global_batch=2)
    each = memory.of_stages(base, config, phases(config)[0], on_gpu=False)[0]
    kept = each.weights + each.gradients + each.optimizer
    lines = [
        "## Resident memory of a process",
        "",
        f"{base.target_parameters:,} parameters. GiB planned / grown, and their ratio.",
        "",
        "| | weights, gradients, optimizer | all, at the peak of two steps |",
        "|---|---|---|",
    ]
    for name, value in (("glibc as it is", None), (f"{GAPS}={GAPLESS}", GAPLESS)):
        state, peak = _resident(base, config, value)
        lines.append(
            f"| {name} | {kept / GIB:.2f} / {state / GIB:.2f}: {kept / state:.3f} | "
            f"{each.total / GIB:.2f} / {peak / GIB:.2f}: {each.total / peak:.3f} |"
        )
    return "\n".join(lines)


def _resident(base: Models, config: Config, gaps: str | None) -> tuple[int, int]:
    """Call :func:`resident_bytes` in a new process that starts with this setting of glibc."""
    if gaps:
        os.environ[GAPS] = gaps
    pool = RankPool(1)
    try:
        return pool.run(resident_bytes, config, base, timeout=600)[0]
    finally:
        pool.close()
        os.environ.pop(GAPS, None)


def resident_bytes(rank: int, config: Config, base: Models) -> tuple[int, int]:
    """Return the bytes by which the process has grown once model and optimizer are built, and at two steps' peak."""
    start_parallel(config.parallel, 1)
    before = psutil.Process().memory_info().rss
    trainer = plan_bodies.new_trainer(config, base)
    for buffer in trainer.wrapped[0].buffers:
        buffer.grad_data.fill_(1.0)  # pages become resident only when they are written
    for state in trainer.optimizer.optimizer.state.values():
        state["exp_avg"].fill_(0.0)
        state["exp_avg_sq"].fill_(0.0)
    grown = psutil.Process().memory_info().rss - before
    plan_bodies.step(config, base, trainer, 1)
    kept = saved_state(trainer)
    plan_bodies.step(config, base, trainer, 1)
    del kept
    trainer.release()
    return grown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def published() -> str:
    """Return the plan's predictions for configurations that others have run."""
    lines = [
        "## Published configurations, planned",
        "",
        "Base vocabularies, bf16, on GPUs: GiB of the fullest rank, and what is left of its room (3 GiB kept back).",
        "",
        "| | weights | gradients | optimizer | kept | logits | total | left |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (recipe, cluster, words) in PUBLISHED.items():
        flags = ["parallel.sequence=false"] if "parallel.tp=1" in words else []
        config = recipes.load(recipe, [f"cluster={cluster}", *ALONE, *flags, *words])
        plan = plan_of(models(config), config)
        most = memory.fullest(plan.stages)
        parts = ("weights", "gradients", "optimizer", "activations", "logits", "total")
        shown = " | ".join(f"{getattr(most, part) / GIB:.1f}" for part in parts)
        lines.append(f"| {name} | {shown} | {(room(plan.config) - most.total) / GIB:+.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
