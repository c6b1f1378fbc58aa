"""Job scripts and the sbatch commands that submit them: pure functions of a configuration."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nemo_adapt.config import Config, SiteConfig
from nemo_adapt.errors import UserError
from nemo_adapt.launch import container
from nemo_adapt.launch.chain import Job, Kind, Size, evaluation_gpus, room_of
from nemo_adapt.launch.paths import LaunchPaths

PLAIN = re.compile(r"[\w.,:;@%/+=*\[\]()&|!~-]+")
"""Characters allowed in an ``#SBATCH`` line: sbatch has its own quoting rules there, and cannot quote line breaks."""
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
REQUESTS = ("gpus-per-node", "gres", "none")
LEAST_SECONDS = 60
"""Slurm may send the stop signal up to this many seconds earlier than asked (sbatch's ``--signal``). Jobs other than
trainings, which need no time to stop, ask for it so long before their limit."""
OURS = (
    *("array", "chdir", "dependency", "error", "kill-on-invalid-dep", "no-requeue", "nodes", "ntasks"),
    *("ntasks-per-node", "open-mode", "output", "parsable", "requeue", "signal", "time", "wait", "wrap"),
)
"""Options of sbatch that are set here or that scripts depend on, and that a site cannot set."""
OURS_OF_SRUN = ("kill-on-bad-exit", "ntasks")
"""The same of srun."""


def script(config: Config, job: Job, size: Size, paths: LaunchPaths, workdir: Path, python: str) -> str:
    """Return the script of a job that is submitted from ``workdir``. The template quotes every inserted value.

    ``python``: the command that starts Python on a node. ``UserError`` for values that sbatch or pyxis would misread.
    """
    site = config.site
    check_site(site)
    ranks, array = job.kind is Kind.RANKS, job.kind is Kind.ARRAY
    return (
        _templates()
        .get_template("job.sh.j2")
        .render(
            options=options(config, job, size),
            site=site,
            ranks=ranks,
            array=array,
            threads=threads_of(config, job),
            run=str(paths.root),
            needed=container.required_paths(config, workdir),
            srun=srun_options(config, job, size, paths, workdir),
            python=python,
            code=str(paths.code),
            command=job.command,
            job=job.name,
            result=job.result,
        )
    )


def options(config: Config, job: Job, size: Size) -> list[str]:
    """Return the sbatch options in the head of a job's script."""
    site, cpu = config.site, config.site.cpu
    ranks, array = job.kind is Kind.RANKS, job.kind is Kind.ARRAY
    trains, gpus = ranks or array, gpus_of(config, job, size)
    given: dict[str, Any] = {
        "job-name": label(f"{config.run.name}-{job.name}"),
        "array": f"0-{job.tasks - 1}" if array else "",
        "partition": site.partition if trains or gpus or not cpu.partition else cpu.partition,
        "account": site.account,
        "qos": site.qos if trains or gpus or not cpu.partition else "",
        "constraint": site.constraint if trains or gpus else "",
        "nodes": size.nodes if ranks else 1,
        "ntasks-per-node": size.ranks_per_node if ranks else 1,
        "cpus-per-task": cpus_of(config, job, size),
        "mem": memory_of(config, job, size),
        "time": site.time if trains else cpu.time,
    }
    of = f"{site.gpu_type}:" if site.gpu_type else ""
    if gpus and site.gpu_request != "none":
        given[site.gpu_request] = f"{of}{gpus}" if site.gpu_request == "gpus-per-node" else f"gpu:{of}{gpus}"
    if trains:
        given["signal"] = f"B:USR1@{site.signal_seconds}"
    elif is_longer_than(cpu.time, 3 * LEAST_SECONDS):  # or it may come before anything is done
        given["signal"] = f"B:USR1@{LEAST_SECONDS}"
    given["open-mode"] = "append"
    return ["--requeue", *(f"--{name}={value}" for name, value in given.items() if value not in ("", 0)), *site.sbatch]


def options_by_name(config: Config, job: Job, size: Size) -> dict[str, str]:
    """Return the same options: name -> value, which is empty for an option without one."""
    return dict(option.removeprefix("--").partition("=")[::2] for option in options(config, job, size))


def gpus_of(config: Config, job: Job, size: Size) -> int:
    """Return the GPUs of a node that a job asks for."""
    if job.kind in (Kind.RANKS, Kind.ARRAY):
        return size.gpus_per_node
    return evaluation_gpus(config, size) if job.kind is Kind.GPU else 0


def cpus_of(config: Config, job: Job, size: Size) -> int:
    """Return the cores per Slurm task; 0: Slurm's default."""
    each = config.site.cpus_per_rank
    if job.kind is Kind.ARRAY:
        return each * size.ranks * size.processes
    if job.kind is Kind.RANKS:
        return each
    return each * gpus if (gpus := gpus_of(config, job, size)) else config.site.cpu.cpus


def memory_of(config: Config, job: Job, size: Size) -> str:
    """Return the memory per node; empty: Slurm's default, which others' jobs on the node leave room for."""
    site, gpus = config.site, gpus_of(config, job, size)
    trains = job.kind in (Kind.RANKS, Kind.ARRAY)
    if not trains and not gpus:
        return site.cpu.memory
    is_whole = size.is_whole if trains else gpus >= room_of(config)[0]
    return site.memory if is_whole or "--exclusive" in site.sbatch else ""


def threads_of(config: Config, job: Job) -> int:
    """Return the OpenMP threads per rank; 0: not set."""
    least = {Kind.RANKS: 1, Kind.ARRAY: 0}
    return max(config.site.cpus_per_rank, least[job.kind]) if job.kind in least else 0


def srun_options(config: Config, job: Job, size: Size, paths: LaunchPaths, workdir: Path) -> list[str]:
    """Return the options of the srun that starts the ranks of a job, or its only process."""
    site = config.site
    cpus = cpus_of(config, job, size)
    words = ["--kill-on-bad-exit=1", f"--ntasks={size.ranks if job.kind is Kind.RANKS else 1}"]
    words += [f"--cpus-per-task={cpus}"] if cpus else []  # since Slurm 22.05 srun does not inherit it
    return [*words, *container.options(config, folders(paths, workdir), workdir, variables(config, job)), *site.srun]


def folders(paths: LaunchPaths, workdir: Path) -> list[Path]:
    """Return the folders that a job accesses: the one it is launched from, and that of the runs if it is elsewhere,
    also by a link."""
    named = [workdir, *([] if paths.root.is_relative_to(workdir) else [paths.root.parent])]
    place = paths.root.resolve().parent
    return named if any(place.is_relative_to(folder.resolve()) for folder in named) else [*named, place]


def variables(config: Config, job: Job) -> list[str]:
    """Return the names of the environment variables that a job's script sets for its processes."""
    meeting = ("MASTER_ADDR", "MASTER_PORT") if job.kind is Kind.RANKS else ()
    threads = ("OMP_NUM_THREADS",) if threads_of(config, job) else ()
    return list(dict.fromkeys([*config.site.environment, *threads, *meeting]))


def submission(
    config: Config, job: Job, paths: LaunchPaths, workdir: Path, after: str = "", cluster: str = ""
) -> list[str]:
    """Return the sbatch command that submits a job's script from ``workdir``.

    ``after``: the id of the job before it; ``job.after`` is the type of the dependency. If that can no longer be
    fulfilled, Slurm cancels the job. ``cluster``: that of the job before, if one was chosen: other clusters do not know
    the job. ``UserError`` for a run's folder to which Slurm cannot write a log.
    """
    number = "%A_%a" if job.kind is Kind.ARRAY else "%j"
    log = str(paths.log(job.name, number))
    if "\\" in log:
        raise UserError(f"Slurm cannot write a log below {paths.root}: it would interpret the backslash in the name")
    name = log[: -len(f"{number}.log")].replace("%", "%%") + f"{number}.log"
    words = ["sbatch", "--parsable", "--kill-on-invalid-dep=yes", f"--chdir={workdir}", f"--output={name}"]
    words += [f"--clusters={cluster}"] if cluster else []
    return [*words, *([f"--dependency={job.after}:{after}"] if after else []), str(paths.script(job.name))]


def label(name: str) -> str:
    """Return a job's name with only the characters that Slurm's tables can show."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII).lstrip("-.") or "run"


def check_site(site: SiteConfig) -> None:
    """``UserError`` for settings of a site that sbatch would misread or refuse, or that leave no time to train."""
    keys = ("partition", "account", "qos", "constraint", "gpu_type", "memory", "time")
    values = {f"site.{key}": getattr(site, key) for key in keys}
    values |= {f"site.cpu.{key}": getattr(site.cpu, key) for key in ("partition", "memory", "time")}
    values |= {f"site.sbatch.{number}": value for number, value in enumerate(site.sbatch)}
    for key, value in values.items():
        if value and not PLAIN.fullmatch(value):
            raise UserError(f"{key}={value!r}: sbatch takes no spaces, quotes or line breaks there")
    for option in site.sbatch:
        if not option.startswith("--"):
            raise UserError(f"site.sbatch: {option!r} is not an --option")
    for key, given, ours in (("site.sbatch", site.sbatch, OURS), ("site.srun", site.srun, OURS_OF_SRUN)):
        for option in given:
            name = option.removeprefix("--").partition("=")[0]
            # Slurm takes the beginning of an option's name for it.
            if option.startswith("--") and name and any(each.startswith(name) for each in ours):
                raise UserError(f"{key}: {option!r} is an option that launch sets itself, as are {', '.join(ours)}")
    for name in site.environment:
        if not VARIABLE.fullmatch(name):
            raise UserError(f"site.environment: {name!r} is not a valid variable name")
    if site.venv.startswith("~"):
        raise UserError(f"site.venv={site.venv}: write out the home folder, ~ is not expanded here")
    if site.gpu_request not in REQUESTS:
        raise UserError(f"site.gpu_request={site.gpu_request!r} is not one of {', '.join(REQUESTS)}")
    if seconds(site.time) < site.signal_seconds + LEAST_SECONDS // 2:
        raise UserError(
            f"site.time={site.time} leaves no time to train before site.signal_seconds={site.signal_seconds}: give a "
            "longer time limit, or a shorter notice"
        )


def short_of_time(site: SiteConfig) -> str:
    """Return a note if a training may be asked to stop soon after it begins, else ""."""
    left = max(0, seconds(site.time) - site.signal_seconds - LEAST_SECONDS)
    if left >= LEAST_SECONDS:
        return ""
    return (
        f"site.time={site.time} with site.signal_seconds={site.signal_seconds} may leave a training {left} s, with the "
        "start of its ranks: give a longer time limit"
    )


def seconds(limit: str) -> int:
    """Return a Slurm time limit (``90``, ``1:30:00``, ``2-12``, ``2-12:30``, …) in seconds, else ``UserError``."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if not found:
        raise UserError(f"{limit!r} is not a time limit: write minutes, hours:minutes:seconds, or days-hours")
    days, *rest = found.groups()
    parts = [int(part) for part in rest if part is not None]
    if days is not None:
        hours, minutes, left = [*parts, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + left
    if len(parts) == 3:
        return (parts[0] * 60 + parts[1]) * 60 + parts[2]
    return parts[0] * 60 + (parts[1] if len(parts) == 2 else 0)


def is_longer_than(limit: str, least: float) -> bool:
    """Return whether a Slurm time limit, which may be of a kind that ``seconds`` does not read, is longer."""
    try:
        return not limit or seconds(limit) > least
    except UserError:
        return True


def shown(words: Sequence[str]) -> str:
    """Return a command quoted for a shell."""
    return shlex.join(words)


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("nemo_adapt.launch"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
        finalize=lambda value: shlex.quote(str(value)),  # quotes every expression, so that none can be forgotten
    )
