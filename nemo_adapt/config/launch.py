"""How a run is submitted as Slurm jobs, and the site that runs them. Site profiles are ``slurm/*.yaml``."""

from dataclasses import dataclass, field


@dataclass
class LaunchConfig:
    dry_run: bool = False
    """Print the scripts and the commands that would be called; submit and write nothing."""
    nodes: int = 0
    """Nodes of the jobs that run on ranks; 0: those of ``cluster``, or as many as the layout (``parallel``) needs."""
    must_fit: bool = True
    """With ``cluster=NAME``: refuse a training that ``nemo-adapt plan`` estimates to be too large for it."""
    executor: str = "sbatch"
    """What submits the jobs: ``sbatch``, or ``nemo_run``, NeMo-Run's SlurmExecutor (the extra ``nemo-run``)."""


@dataclass
class CpuConfig:
    """Jobs without GPUs: ``prepare``, ``export`` and a study's report, and ``evaluate`` on nodes without GPUs."""

    partition: str = ""
    """Partition of these jobs; empty: ``site.partition``."""
    cpus: int = 0
    """Cores per job; 0: Slurm's default."""
    memory: str = ""
    """Memory per node, such as ``64G``; empty: Slurm's default."""
    time: str = "12:00:00"
    """Time limit of each of these jobs, and of ``evaluate`` everywhere, in Slurm's format."""


@dataclass
class ContainerConfig:
    """The container in which all jobs run (needs pyxis and enroot on the nodes)."""

    image: str = ""
    """A file (``/images/nemo.sqsh``), or a name that enroot can import (``nvcr.io#nvidia/nemo:26.02``)."""
    mounts: list[str] = field(default_factory=list)
    """Further folders to mount, for models, text and results elsewhere: ``/host:/inside`` or ``/host:/inside:ro``. The
    folder that you launch from is always mounted."""


@dataclass
class SiteConfig:
    partition: str = ""
    """Partition of the jobs; empty: Slurm's default. This and the next three keys are sbatch's options of that name."""
    account: str = ""
    """Account that is charged."""
    qos: str = ""
    """Quality of service; with ``site.cpu.partition`` not of jobs without GPUs."""
    constraint: str = ""
    """Features required of the nodes of jobs that train or have GPUs."""
    nodes: int = 0
    """Most nodes per job; 0: those of ``cluster``, or Slurm's own limit."""
    gpus_per_node: int = 0
    """GPUs per node, one per rank; 0: those of ``cluster``."""
    gpu_type: str = ""
    """Slurm's name of the GPU type, where the site requires it (``--gpus-per-node=h100:8``)."""
    gpu_request: str = "gpus-per-node"
    """How GPUs are requested: ``gpus-per-node``, ``gres``, or ``none`` where they come with the node."""
    ranks_per_node: int = 0
    """Ranks per node; 0: one per GPU."""
    cpus_per_rank: int = 0
    """Cores of each rank, and for each GPU of ``evaluate``; 0: Slurm's default."""
    memory: str = ""
    """Memory per node for jobs on ranks or GPUs that fill their nodes: ``0`` (all of it), or such as ``500G``. Empty,
    and for jobs that leave room for others (fewer ranks or GPUs than a node has, no ``--exclusive``): Slurm's default.
    """
    time: str = "24:00:00"
    """Time limit of one training segment, in Slurm's format; the job is requeued for the next one."""
    signal_seconds: int = 300
    """Seconds before the limit at which a training is asked to save and exit. Slurm may ask a minute earlier."""
    cpu: CpuConfig = field(default_factory=CpuConfig)
    container: ContainerConfig = field(default_factory=ContainerConfig)
    venv: str = ""
    """A virtual environment with this package's dependencies; with a container, one that is mounted in it. Empty,
    without a container: the environment that you launch from."""
    modules: list[str] = field(default_factory=list)
    """Environment modules that each job loads first, in this order."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of every job, such as NCCL's network settings (``NCCL_SOCKET_IFNAME``)."""
    sbatch: list[str] = field(default_factory=list)
    """Further sbatch options of every job, such as ``--exclusive``."""
    srun: list[str] = field(default_factory=list)
    """Further ``srun`` options of every job, such as ``--cpu-bind=none``."""
