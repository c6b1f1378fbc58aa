"""How a run becomes Slurm jobs, and the ways of the site that takes them. Profiles of sites are ``slurm/*.yaml``."""

from dataclasses import dataclass, field


@dataclass
class LaunchConfig:
    dry_run: bool = False
    """Print the scripts and what would be called; submit and write nothing."""
    nodes: int = 0
    """Nodes of the jobs that run on ranks; 0: those of ``cluster``, or as many as the layout (``parallel``) needs."""
    executor: str = "sbatch"
    """Who submits: ``sbatch``, or ``nemo_run``, NeMo-Run's SlurmExecutor (the extra ``nemo-run``)."""


@dataclass
class CpuConfig:
    """Jobs without GPUs: ``prepare`` and ``export``."""

    partition: str = ""
    """Where they run; empty: ``site.partition``."""
    cpus: int = 0
    """Cores of a job; 0: Slurm's default."""
    memory: str = ""
    """Memory of a node, as ``64G``; empty: Slurm's default."""
    time: str = "12:00:00"
    """Time limit of each of them, and of ``evaluate``, as Slurm writes it."""


@dataclass
class ContainerConfig:
    """A container in which everything runs (needs pyxis and enroot on the nodes)."""

    image: str = ""
    """A file (``/images/nemo.sqsh``), or a name that enroot can import (``nvcr.io#nvidia/nemo:25.09``)."""
    mounts: list[str] = field(default_factory=list)
    """Further ``/host:/inside`` or ``/host:/inside:ro`` folders: models and text. The folder that was launched from is
    always mounted."""


@dataclass
class SiteConfig:
    partition: str = ""
    """Where jobs run; empty: Slurm's default. This and the next three are sbatch's options of the same name."""
    account: str = ""
    """Who pays."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features that nodes of jobs with GPUs must have."""
    nodes: int = 0
    """Most nodes that a job may have; 0: those of ``cluster``, or what Slurm says."""
    gpus_per_node: int = 0
    """GPUs of a node, of which each rank takes one; 0: those of ``cluster``."""
    gpu_type: str = ""
    """What Slurm calls them, where it wants to know (``--gpus-per-node=h100:8``)."""
    gpu_request: str = "gpus-per-node"
    """How GPUs are asked for: ``gpus-per-node``, ``gres``, or ``none`` where they come with the node."""
    ranks_per_node: int = 0
    """Ranks of a node where that is not the number of its GPUs."""
    cpus_per_rank: int = 0
    """Cores of each rank; 0: Slurm's default."""
    memory: str = ""
    """Memory of a node for jobs on ranks, as ``0`` (all of it) or ``500G``; empty: Slurm's default."""
    time: str = "24:00:00"
    """Time limit of one training segment, as Slurm writes it; the job goes on in the next one."""
    signal_seconds: int = 300
    """How long before the limit a training is asked to save and end. Slurm may ask a minute earlier."""
    cpu: CpuConfig = field(default_factory=CpuConfig)
    container: ContainerConfig = field(default_factory=ContainerConfig)
    venv: str = ""
    """A virtual environment with this package's dependencies, in a container one that is mounted there; empty, without
    a container: the one launched from."""
    modules: list[str] = field(default_factory=list)
    """Loaded first, in this order."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of every job, those of the network among them (``NCCL_SOCKET_IFNAME``)."""
    sbatch: list[str] = field(default_factory=list)
    """Further options of every job, as ``--exclusive``."""
    srun: list[str] = field(default_factory=list)
    """Further options of ``srun`` in every job, as ``--cpu-bind=none``."""
