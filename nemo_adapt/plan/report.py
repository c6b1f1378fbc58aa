"""Reports of a plan: values for JSON, and printed tables."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from nemo_adapt.config.layout import beyond_trained, engine_fits, stage_layers
from nemo_adapt.console.printed import data_size, print_table, span
from nemo_adapt.plan.estimate import Plan
from nemo_adapt.plan.memory import GIB, PARTS, fullest
from nemo_adapt.plan.needs import room
from nemo_adapt.plan.search import Proposal

PINNED = 2
"""At most so many bytes of main memory for one that is copied from a GPU: torch rounds each tensor's up to a power of
two (PowerOf2Ceil in ATen/core/CachingHostAllocator.h)."""
SECONDS = ("computation", "tensor", "context", "pipeline", "idle", "data", "optimizer")


def as_values(plan: Plan, wrong: list[str], proposals: list[Proposal]) -> dict[str, Any]:
    """Return the plan as values for JSON, in bytes, seconds and hours. ``wrong``: why it does not fit."""
    config, models, budget = plan.config, plan.models, plan.budget
    ranks = {"ranks": config.parallel.ranks, "room": room(config) if plan.step else None}
    return {
        "recipe": config.recipe,
        "cluster": config.cluster.name or None,
        "fits": not wrong if plan.step else None,
        "wrong": wrong,
        "model": {
            "facts": models.facts,
            "parameters_before": models.source_parameters,
            "parameters_after": models.target_parameters,
            "vocabulary_before": models.source.vocab,
            "vocabulary_after": models.target.vocab,
            "vocabulary_padded": plan.padded,
        },
        "parallel": asdict(config.parallel),
        "memory": [{**asdict(memory), "total": memory.total} for memory in plan.stages],
        **ranks,
        "budget": {**asdict(budget), "tokens": budget.tokens, "bytes": budget.tokens * budget.bytes_per_token},
        "steps": [{**asdict(step), "seconds": step.seconds} for step in plan.steps],
        "disk": {**asdict(plan.disk), "at_most": plan.disk.at_most},
        "hours": plan.hours,
        "gpu_hours": plan.gpu_hours,
        "proposals": [_proposal(each) for each in proposals],
    }


def show(plan: Plan) -> None:
    """Print the tables."""
    print_table(["plan", ""], list(_facts(plan)))
    print()
    _show_memory(plan)
    if plan.step:
        print()
        # Phases that train the same share a column.
        kinds = {what: step for (what, _), step in zip(plan.budget.phases, plan.steps, strict=True)}
        parts = [(name, [getattr(step, name) for step in kinds.values()]) for name in (*SECONDS, "seconds")]
        rows = [(name, *(f"{value:,.3f}" for value in values)) for name, values in parts if any(values)]
        heads = ["seconds"] if len(kinds) == 1 else [f"{what}, seconds" for what in kinds]
        print_table(["a step", *heads], [*rows[:-1], ("total", *rows[-1][1:])])


def _show_memory(plan: Plan) -> None:
    """Print a column for the fullest rank, and one for the last stage, which has the logits."""
    most, last = fullest(plan.stages), plan.stages[-1]
    shown = [most] if most is last else [most, last]
    stages = len(plan.stages)
    unit, name = (GIB, "GiB") if most.total >= GIB else (2**20, "MiB")
    heads = [f"stage {each.stage + 1} of {stages}, {name}" for each in shown] if stages > 1 else [name]
    named = [(part, [getattr(each, part) for each in shown]) for part in (*PARTS, "total")]
    rows = [(part, *(f"{value / unit:,.2f}" for value in values)) for part, values in named if any(values)]
    if plan.step:
        cluster, kept = plan.config.cluster, plan.config.plan.reserve_gib
        of = "" if cluster.gpus_per_node else ", shared by ranks"
        said = f"room ({cluster.memory_gib:g} GiB less {kept:g}{of})"
        rows.append((said, *[f"{room(plan.config) / unit:,.2f}"] * len(shown)))
    print_table(["memory of a rank", *heads], rows)


def show_proposals(proposals: list[Proposal]) -> None:
    """Print the layouts that fit, and the settings that select the first."""
    print()
    if not proposals:
        print("no layout fits this cluster: more nodes, GPUs with more memory, or a shorter train.seq_length")
        return
    heads = ["layouts that fit", "TP", "PP", "virtual", "CP", "DP", "micro batch", "recompute", "GiB", "s/step", "MFU"]
    rows = []
    for number, each in enumerate(proposals, start=1):
        sizes = [str(getattr(each.parallel, name)) for name in ("tp", "pp", "virtual", "cp", "dp")]
        if each.parallel.stage_layers:
            sizes[1] += f" (last: {each.parallel.stage_layers[-1]})"
        timed = (f"{each.memory.total / GIB:,.1f}", f"{each.step.seconds:,.3f}", f"{each.step.mfu:.0%}")
        recompute = "yes" if each.recompute else "no"
        rows.append((str(number), *sizes, str(each.micro_batch), recompute, *timed))
    print_table(heads, rows)
    print(f"\nthe first: {proposals[0].words}")


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    config, models, budget, disk, cluster = plan.config, plan.models, plan.budget, plan.disk, plan.config.cluster
    parallel, before, after = config.parallel, models.source.vocab, models.target.vocab
    if plan.step:
        kind = f"{cluster.gpus_per_node} x {cluster.gpu or 'GPU'}" if cluster.gpus_per_node else "no GPU"
        yield "cluster", f"{cluster.name or 'as given'}: {cluster.nodes} {_nodes(cluster.nodes)} of {kind}"
    else:
        yield "cluster", "none chosen: cluster=NAME says whether it fits, and how long it takes"
    yield "model", f"settings from {models.facts}"
    yield "parameters", f"{_billions(models.source_parameters)} -> {_billions(models.target_parameters)}"
    unit = config.resize.padded_vocab_multiple
    yield "vocabulary", f"{before:,} -> {after:,} ({models.vocabulary}), padded to {plan.padded:,} ({unit} x TP)"
    sizes = f"TP {parallel.tp} x PP {parallel.pp} x CP {parallel.cp} x DP {parallel.dp} = {parallel.ranks} ranks"
    engine = engine_fits(models.target, config.train, parallel)
    layers = stage_layers(models.target.layers, parallel)
    flags = {
        f"{parallel.virtual} interleaved": parallel.virtual > 1,
        f"stages of {', '.join(map(str, layers))} layers": len(set(layers)) > 1,
        "sequence": parallel.sequence,
        "recompute": config.train.recompute,
        "CP by Transformer Engine": parallel.cp > 1 and config.cluster.gpus_per_node and engine,
    }
    yield "layout", ", ".join([sizes, *(name for name, value in flags.items() if value)])
    size = budget.tokens_per_step * budget.bytes_per_token
    yield "a step reads", f"{budget.tokens_per_step:,} tokens, {data_size(size)} of text ({budget.counted})"
    if beyond := beyond_trained(models.target, config.train.seq_length):
        yield "samples", beyond
    yield "training", f"{budget.steps:,} steps, {budget.tokens:,} tokens: {', '.join(map(_phase, budget.phases))}"
    if plan.step and plan.hours is not None:
        rate = budget.tokens_per_step / plan.step.seconds
        yield "speed", f"{rate:,.0f} tokens/s, MFU {plan.step.mfu:.0%} (computation alone: plan.mfu={config.plan.mfu})"
        cost = f", {plan.gpu_hours:,.1f} GPU-hours" if plan.gpu_hours is not None else ""
        yield "time", f"{span(plan.hours * 3600)}{cost}"
    saved = f", {span(disk.save_seconds)} each" if disk.save_seconds and disk.save_seconds >= 1 else ""
    read = f", read in {span(disk.load_seconds)}" if disk.load_seconds and disk.load_seconds >= 1 else ""
    yield "base model", f"{data_size(disk.base)}, and as much converted{read}"
    held = disk.saved_node_bytes
    kept = f", until then {data_size(held)} to {data_size(PINNED * held)} of a node's memory" if held else ""
    yield "checkpoints", f"{data_size(disk.checkpoint)} each, {disk.saves:,} times{saved}{kept}"
    yield "export", data_size(disk.export)
    yield "disk at most", f"{data_size(disk.at_most)}, without text and datasets"


def _proposal(each: Proposal) -> dict[str, Any]:
    needs = {"bytes": each.memory.total, "seconds": each.step.seconds, "mfu": each.step.mfu}
    return {**asdict(each.parallel), "micro_batch": each.micro_batch, "recompute": each.recompute, **needs}


def _phase(phase: tuple[str, int]) -> str:
    return f"{phase[0]} {phase[1]:,}"


def _nodes(count: int) -> str:
    return "node" if count == 1 else "nodes"


def _billions(count: int) -> str:
    return f"{count / 1e9:,.3f} billion" if count >= 1e8 else f"{count:,}"
