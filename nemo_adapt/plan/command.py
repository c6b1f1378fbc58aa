"""``nemo-adapt plan``: estimate what a training will need, before anything is started.

    nemo-adapt plan recipe=llama3_70b_hi cluster=h100_x64 [plan.search=true] [json=FILE]

Needs no GPU, no weights and no text. ``json=-`` prints JSON instead of the tables. A layout that cannot work is an
error, unless ``plan.search=true`` searches for layouts that can.
"""

import json
from dataclasses import replace
from pathlib import Path

from nemo_adapt.config import Config, PhaseConfig, recipe_files, recipes
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.config.layout import check_layout, check_phases, check_positions, check_train
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.plan.budget import budget, disk
from nemo_adapt.plan.memory import GIB, Memory, fullest
from nemo_adapt.plan.model import Models, models
from nemo_adapt.plan.needs import is_chosen, laid_out, needed, room
from nemo_adapt.plan.report import PARTS, Plan, as_values, show, show_proposals
from nemo_adapt.plan.search import Proposal, proposals
from nemo_adapt.plan.speed import step


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a training that cannot work."""
    given = [word.partition("=")[2] for word in words if word.startswith("json=")]
    wanted = given[-1] if given else ""
    if wanted and not Path(wanted).parent.is_dir():
        raise UserError(f"json={wanted}: the folder {Path(wanted).parent} does not exist")
    config = recipes.of_words([word for word in words if not word.startswith("json=")])
    check_settings(config)
    if config.launch.nodes:  # as launch does
        config = replace(config, cluster=replace(config.cluster, nodes=config.launch.nodes))
    base = models(config)
    found = search(base, config) if config.plan.search else []
    try:
        plan = plan_of(base, config)
    except UserError as error:
        if not config.plan.search or wanted:
            raise
        say(f"this layout cannot work: {error}")
        show_proposals(found)
        return
    of_rank = too_much(fullest(plan.stages), plan.config) if plan.step else []
    wrong = [*of_rank, *too_much_saved(plan)]
    report = as_values(plan, wrong, found)
    if wanted == "-":
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        show(plan)
        if config.plan.search:
            say("\n".join(["", *(f"this layout {line}" for line in wrong)]))
            show_proposals(found)
        if wanted:
            write_json(Path(wanted), report)
    if wrong and not config.plan.search:
        raise UserError(wrong[0] + ("; plan.search=true proposes layouts that fit" if of_rank else ""))


def plan_of(base: Models, config: Config) -> Plan:
    """Return the plan of the configured layout; ``UserError`` if it does not fit the model, training or cluster."""
    config = laid_out(config)
    check_layout(base.target, config.parallel)
    check_train(config.train, config.parallel)
    check_positions(base.target, config.train.seq_length)
    check_positions(base.target, config.evaluate.context, "evaluate.context")
    check_phases(config, base.target)
    spent = budget(config)
    timed = [step(base, config, PhaseConfig(what)) for what, _ in spent.phases] if is_chosen(config.cluster) else []
    return Plan(config, base, needed(base, config), spent, disk(base, config, spent), timed)


def search(base: Models, config: Config) -> list[Proposal]:
    """Return the best layouts for the configured cluster; ``UserError`` without one."""
    if not is_chosen(config.cluster):
        raise UserError(f"plan.search=true needs a cluster: cluster={'|'.join(recipe_files.names('cluster'))}")
    return proposals(base, config)[: config.plan.proposals]


def too_much(memory: Memory, config: Config) -> list[str]:
    """Return why a training does not fit the memory of its ranks; empty if it does."""
    space = room(config)
    if memory.total <= space:
        return []
    largest = max(PARTS, key=lambda part: getattr(memory, part))
    of = f"{config.cluster.memory_gib:g} GiB less plan.reserve_gib={config.plan.reserve_gib:g}"
    shared = "" if config.cluster.gpus_per_node else ", shared by the ranks of a node"
    return [
        f"does not fit: a rank needs {memory.total / GIB:,.1f} GiB, most of it for {largest}, and has "
        f"{space / GIB:,.1f} GiB ({of}{shared})"
    ]


def too_much_saved(plan: Plan) -> list[str]:
    """Return why the main memory of GPU nodes cannot hold the copy of a checkpoint; empty if it can."""
    cluster, needs = plan.config.cluster, plan.disk.saved_node_bytes
    if not needs or needs <= cluster.node_memory_gib * GIB:
        return []
    return [
        f"does not fit: a node needs {needs / GIB:,.1f} GiB of main memory for a checkpoint until it is written and "
        f"has {cluster.node_memory_gib:g} GiB (cluster.node_memory_gib): take more nodes (cluster.nodes)"
    ]


def check_settings(config: Config) -> None:
    """``UserError`` for settings of a plan that are out of range."""
    check_numbers(config)
    if not config.plan.mfu:
        raise UserError(f"plan.mfu={config.plan.mfu} must be above 0")
