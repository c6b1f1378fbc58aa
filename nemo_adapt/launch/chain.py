"""The jobs of a run, and their sizes."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from nemo_adapt.config import Config, ParallelConfig
from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.weight_files import gpus_needed
from nemo_adapt.run.steps import Step

USUAL_GIB = 80.0
"""Memory of a GPU where no ``cluster`` is chosen, which says it: that of an A100 or H100."""
PREPARE = "prepare"
"""Name of the job that runs all stages before the first one on ranks."""


class Kind(Enum):
    """The resources of a job."""

    CPU = "cpu"
    GPU = "gpu"
    """One process, with as many GPUs of a node as it needs."""
    RANKS = "ranks"
    ARRAY = "array"
    """A job array: tasks that Slurm schedules separately, each on one node or a part of it; they may start ranks."""


@dataclass(frozen=True)
class Job:
    """One job of the chain; it waits for the job before it."""

    name: str
    stages: tuple[str, ...]
    kind: Kind
    result: str = ""
    """Folder below the run's; once it has a manifest, the job on ranks is finished and is not requeued."""
    tasks: int = 0
    """Number of tasks of a job array."""
    after: str = "afterok"
    """Slurm's type of the dependency on the job before."""
    command: str = "job"
    """The command that the script runs: ``nemo-adapt COMMAND RUN NAME``."""


@dataclass(frozen=True)
class Size:
    """Nodes of a job on ranks or of an array's task, and ranks and GPUs per node."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    processes: int = 1
    """Cells that an array's task runs at once, each with these ranks, on the same GPUs."""
    is_whole: bool = True
    """Whether the job fills its nodes."""

    @property
    def ranks(self) -> int:
        """Number of ranks on all nodes."""
        return self.nodes * self.ranks_per_node


def chain(steps: Sequence[Step]) -> list[Job]:
    """Return the jobs of a run: one for all steps before the first one on ranks, then one for each step."""
    first = next(number for number, step in enumerate(steps) if step.on_ranks)
    jobs = [Job(PREPARE, tuple(dict.fromkeys(step.name for step in steps[:first])), Kind.CPU)]
    for step in steps[first:]:
        kind = Kind.RANKS if step.on_ranks else Kind.GPU if step.uses_gpu else Kind.CPU
        jobs.append(Job(step.name, (step.name,), kind, step.result if step.on_ranks else ""))
    return jobs


def size_of(config: Config) -> Size:
    """Return the size of jobs on ranks: the fewest nodes on which the ranks of a TP x CP group are on one node, as far
    as there are enough; ``UserError`` for a layout that is too large for the site, or that does not divide evenly over
    the nodes."""
    site, cluster, parallel = config.site, config.cluster, config.parallel
    gpus, room = room_of(config)
    wanted = config.launch.nodes or (cluster.nodes if cluster.name else 0)
    nodes = wanted or -(-parallel.ranks // room)
    most = site.nodes or (cluster.nodes if cluster.name else 0)
    layout = f"tp={parallel.tp} x pp={parallel.pp} x cp={parallel.cp} x dp={parallel.dp}"
    if most and nodes > most:
        needed = f"launch.nodes={nodes}" if wanted else f"parallel: {layout} is {parallel.ranks} ranks, {nodes} nodes"
        raise UserError(f"{needed}, but the site has {most} nodes of {room} (site.nodes, site.gpus_per_node)")
    if not wanted and parallel.ranks % nodes:
        raise UserError(f"parallel: {layout} is {parallel.ranks} ranks, which do not divide evenly over {nodes} nodes")
    nodes = nodes if wanted else _with_whole_groups(parallel, nodes, most)
    per_node = room if wanted else parallel.ranks // nodes
    model = parallel.tp * parallel.pp * parallel.cp
    if nodes * per_node % model:
        raise UserError(
            f"{nodes} nodes of {per_node} are {nodes * per_node} ranks, no multiple of parallel.tp x pp x cp = {model}"
        )
    taken = min(gpus, per_node)
    return Size(nodes, per_node, taken, is_whole=(per_node, taken) == (room, gpus))


def _with_whole_groups(parallel: ParallelConfig, nodes: int, most: int) -> int:
    """Return the fewest nodes, from ``nodes`` to ``most`` (0: any number), that hold whole TP x CP groups, whose ranks
    follow each other; ``nodes`` if there are none."""
    group = parallel.tp * parallel.cp
    groups = parallel.ranks // group
    enough = range(nodes, min(groups, most or groups) + 1)
    return next((number for number in enough if groups % number == 0), nodes)


def divided_groups(config: Config, size: Size) -> str:
    """Return a note where ranks of a TP x CP group that would fit a node are on two, else ""."""
    group = config.parallel.tp * config.parallel.cp
    if size.nodes == 1 or size.ranks_per_node % group == 0 or group > room_of(config)[1]:
        return ""
    return (
        f"{size.nodes} nodes of {size.ranks_per_node} ranks divide groups of parallel.tp x cp = {group} between nodes, "
        "over whose network they are slow: choose ranks per node that are a multiple of it"
    )


def evaluation_gpus(config: Config, size: Size) -> int:
    """Return the GPUs of a job that evaluates, in one process: as many of a node as the base's weights need."""
    memory = (config.cluster.memory_gib if config.cluster.gpus_per_node else 0.0) or USUAL_GIB
    needed = 1
    with contextlib.suppress(UserError):  # of missing weights, which other checks report
        needed = gpus_needed(Path(config.model.path), memory * 2**30)
    return min(needed, size.gpus_per_node)


def room_of(config: Config) -> tuple[int, int]:
    """Return (GPUs per node, ranks per node); ``UserError`` where neither is configured, or where GPUs are too few."""
    gpus = config.site.gpus_per_node or config.cluster.gpus_per_node
    per_node = config.site.ranks_per_node or gpus
    if not per_node:
        raise UserError(
            "how many ranks share a node? Give site=NAME, or site.gpus_per_node, or site.ranks_per_node without GPUs"
        )
    if per_node > gpus > 0:
        raise UserError(
            f"site.ranks_per_node={per_node}, but a node has {gpus} GPUs (site.gpus_per_node), and each rank takes one"
        )
    return gpus, per_node


def with_dp_of_jobs(config: Config) -> Config:
    """Return the configuration with ``parallel.dp`` set to fill the ranks of its jobs."""
    parallel = config.parallel
    copies = size_of(config).ranks // (parallel.tp * parallel.pp * parallel.cp)
    return replace(config, parallel=replace(parallel, dp=copies))
