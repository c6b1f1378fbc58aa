"""Which jobs a run becomes, and how large they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.steps import Step

PREPARE = "prepare"
"""The job of all that comes before the first stage on ranks."""


class Kind(Enum):
    """What a job runs on."""

    CPU = "cpu"
    ONE_GPU = "one gpu"
    RANKS = "ranks"
    ARRAY = "array"
    """Tasks that Slurm starts and queues one by one, each on a part of a node, which may run ranks of its own."""


@dataclass(frozen=True)
class Job:
    """One job of the chain; each waits for the one before."""

    name: str
    stages: tuple[str, ...]
    kind: Kind
    result: str = ""
    """The folder (in the run's) whose manifest says that a job on ranks has no more to do."""
    tasks: int = 0
    """Tasks of an array."""
    after: str = "afterok"
    """How the job before has to end, as Slurm says it."""
    command: str = "job"
    """What its script starts: ``nemo-adapt COMMAND RUN NAME``."""


@dataclass(frozen=True)
class Size:
    """Nodes of a job on ranks, ranks and GPUs on each of them."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    processes: int = 1
    """Of an array's task: so many times these ranks work at a time, on the same GPUs."""
    is_whole: bool = True
    """Whether the nodes have room for nothing else."""

    @property
    def ranks(self) -> int:
        """Processes of the job."""
        return self.nodes * self.ranks_per_node


def chain(steps: Sequence[Step]) -> list[Job]:
    """The jobs of a run with these steps: one for all before the first step on ranks, then one for each."""
    first = next(number for number, step in enumerate(steps) if step.on_ranks)
    jobs = [Job(PREPARE, tuple(dict.fromkeys(step.name for step in steps[:first])), Kind.CPU)]
    for step in steps[first:]:
        kind = Kind.RANKS if step.on_ranks else Kind.ONE_GPU if step.uses_gpu else Kind.CPU
        jobs.append(Job(step.name, (step.name,), kind, step.result if step.on_ranks else ""))
    return jobs


def size_of(config: Config) -> Size:
    """The size of jobs on ranks; ``UserError`` for a layout that the site has no room for, or that does not fill it."""
    site, cluster, parallel = config.site, config.cluster, config.parallel
    gpus, per_node = room_of(config)
    wanted = config.launch.nodes or (cluster.nodes if cluster.name else 0)
    nodes = wanted or -(-parallel.ranks // per_node)
    most = site.nodes or (cluster.nodes if cluster.name else 0)
    layout = f"tp={parallel.tp} x pp={parallel.pp} x cp={parallel.cp} x dp={parallel.dp}"
    if most and nodes > most:
        needed = f"launch.nodes={nodes}" if wanted else f"parallel: {layout} is {parallel.ranks} ranks, {nodes} nodes"
        raise UserError(f"{needed}, but the site has {most} nodes of {per_node} (site.nodes, site.gpus_per_node)")
    if not wanted and parallel.ranks % nodes:
        raise UserError(f"parallel: {layout} is {parallel.ranks} ranks, which {nodes} nodes do not share evenly")
    per_node = per_node if wanted else parallel.ranks // nodes
    model = parallel.tp * parallel.pp * parallel.cp
    if nodes * per_node % model:
        raise UserError(
            f"{nodes} nodes of {per_node} are {nodes * per_node} ranks, no multiple of parallel.tp x pp x cp = {model}"
        )
    return Size(nodes, per_node, min(gpus, per_node))


def room_of(config: Config) -> tuple[int, int]:
    """GPUs of a node, and the ranks that share it."""
    gpus = config.site.gpus_per_node or config.cluster.gpus_per_node
    per_node = config.site.ranks_per_node or gpus
    if not per_node:
        raise UserError("how many ranks share a node? Give site.gpus_per_node, or site.ranks_per_node without GPUs")
    return gpus, per_node


def laid_out(config: Config) -> Config:
    """The configuration with as many data-parallel copies as its jobs have room for."""
    parallel = config.parallel
    copies = size_of(config).ranks // (parallel.tp * parallel.pp * parallel.cp)
    return replace(config, parallel=replace(parallel, dp=copies))
