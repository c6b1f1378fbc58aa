"""The estimates for one layout, and whether they fit its cluster."""

from dataclasses import dataclass

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.config.layout import check_layout, check_phases, check_positions, check_train
from nemo_adapt.console.printed import data_size, memory_size, span
from nemo_adapt.errors import UserError
from nemo_adapt.plan.budget import Budget, Disk, budget, disk
from nemo_adapt.plan.memory import GIB, PARTS, Memory, fullest
from nemo_adapt.plan.model import Models
from nemo_adapt.plan.needs import is_chosen, needed, room, with_dp_of_cluster
from nemo_adapt.plan.speed import Step, step
from nemo_adapt.tokens.vocab import padded_rows


@dataclass(frozen=True)
class Plan:
    """All estimates for one layout."""

    config: Config
    models: Models
    stages: list[Memory]
    """Memory of a rank of each pipeline stage."""
    budget: Budget
    disk: Disk
    steps: list[Step]
    """Times of a step in each phase; empty without a cluster."""

    @property
    def step(self) -> Step | None:
        """Times of a step in the last phase; ``None`` without a cluster."""
        return self.steps[-1] if self.steps else None

    @property
    def padded(self) -> int:
        """Rows of the adapted model's tables, padded rows included."""
        return padded_rows(self.models.target.vocab, self.config.resize.padded_vocab_multiple, self.config.parallel.tp)

    @property
    def hours(self) -> float | None:
        """Hours of training: its steps, reading the base model, and saving checkpoints unless that is asynchronous.

        ``None`` without a cluster.
        """
        if not self.steps:
            return None
        disk = self.disk
        waits = (disk.load_seconds or 0) + (
            0 if self.config.train.async_save else disk.saves * (disk.save_seconds or 0)
        )
        seconds = sum(count * step.seconds for (_, count), step in zip(self.budget.phases, self.steps, strict=True))
        return (seconds + waits) / 3600

    @property
    def gpu_hours(self) -> float | None:
        """``hours`` times the number of GPUs; ``None`` without GPUs."""
        gpus = self.config.cluster.gpus_per_node and self.config.parallel.ranks
        return self.hours * gpus if self.hours is not None and gpus else None


def plan_of(base: Models, config: Config) -> Plan:
    """Return the plan of the configured layout; ``UserError`` if it does not fit the model, training or cluster."""
    if not config.plan.mfu:
        raise UserError(f"plan.mfu={config.plan.mfu} must be above 0")
    config = with_dp_of_cluster(config)
    check_layout(base.target, config.parallel)
    check_train(config.train, config.parallel)
    check_positions(base.target, config.train.seq_length)
    check_positions(base.target, config.evaluate.context, "evaluate.context")
    check_phases(config, base.target)
    spent = budget(config)
    timed = [step(base, config, PhaseConfig(what)) for what, _ in spent.phases] if is_chosen(config.cluster) else []
    return Plan(config, base, needed(base, config), spent, disk(base, config, spent), timed)


def shortages(plan: Plan) -> list[str]:
    """Return why the training does not fit the cluster; empty if it does, or without a cluster."""
    return [*too_much(fullest(plan.stages), plan.config), *too_much_saved(plan)] if plan.step else []


def in_short(plan: Plan) -> str:
    """Return the estimates for a cluster in one line."""
    memory, space = memory_size(fullest(plan.stages).total), memory_size(room(plan.config))
    cost = f" ({plan.gpu_hours:,.1f} GPU-hours)" if plan.gpu_hours is not None else ""
    return (
        f"a rank needs {memory} of {space}, training takes {span((plan.hours or 0.0) * 3600)}{cost}, its "
        f"files up to {data_size(plan.disk.at_most)}"
    )


def too_much(memory: Memory, config: Config) -> list[str]:
    """Return why a training does not fit the memory of its ranks; empty if it does."""
    space = room(config)
    if memory.total <= space:
        return []
    largest = max(PARTS, key=lambda part: getattr(memory, part))
    of = f"{config.cluster.memory_gib:g} GiB less plan.reserve_gib={config.plan.reserve_gib:g}"
    shared = "" if config.cluster.gpus_per_node else ", shared by the ranks of a node"
    advice = "" if config.plan.search else "; nemo-adapt plan ... plan.search=true proposes layouts that fit"
    return [
        f"does not fit: a rank needs {memory_size(memory.total)}, most of it for {largest}, and has "
        f"{memory_size(space)} ({of}{shared}){advice}"
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
