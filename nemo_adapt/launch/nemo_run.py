"""The same chain submitted by NeMo-Run's SlurmExecutor, for sites that use it (``launch.executor=nemo_run``).

NeMo-Run writes the job scripts and keeps a folder for each job, in ``launch/nemo-run/`` of the run. Its script requeues
a job whose srun fails, up to a number of retries; setup lines of ours restrict which failures count. Unlike in our own
scripts, nodes are not checked for access to the run's folder. Written for NeMo-Run 0.11.
"""

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.launch import container, sbatch
from nemo_adapt.launch.chain import Job, Kind, size_of
from nemo_adapt.launch.paths import LaunchPaths

UNQUOTED = re.compile(r"[\w.,:@%/+=-]+", re.ASCII)
"""Paths that need no quoting in a shell."""
RETRIES = 1000
"""Retries of a job on ranks. A training without progress stops by itself (``train.attempts``)."""
RENDEZVOUS = """\
MASTER_ADDR=$head_node
MASTER_PORT=$((15000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT
# NeMo-Run's last lines requeue the job after any error: skip that for errors that would come again.
scontrol() {
    [ "$1" != requeue ] || [ "$exitcode" = 85 ] || [ "$exitcode" -gt 128 ] || return 0
    command scontrol "$@"
}"""
"""Shell lines of a job on ranks, run before srun. Only code 85 (more to do) and deaths by a signal are requeued."""


VENV = """\
[ -r {venv}/bin/activate ] || {{
    echo "nemo-adapt: error: site.venv: "{venv}"/bin/activate is missing on $(hostname)" >&2
    exit 2
}}
. {venv}/bin/activate"""
"""Shell lines that activate a virtual environment, as in our own scripts. Else another Python on the PATH would run."""


@contextlib.contextmanager
def experiment(
    config: Config, jobs: Sequence[Job], paths: LaunchPaths, folder: Path, workdir: Path, python: str
) -> Iterator[Any]:
    """Context with the chain as a NeMo-Run experiment, stored in ``folder``.

    ``UserError`` if NeMo-Run is not installed, or cannot handle the folder or the site.
    """
    try:
        import nemo_run  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise UserError(f"launch.executor=nemo_run needs pip install 'nemo-adapt[nemo-run]' ({error})") from None
    sbatch.check_site(config.site)
    if not UNQUOTED.fullmatch(str(folder)) or "/nemo_run" in str(paths.root):  # NeMo-Run uses that name itself
        raise UserError(f"launch.executor=nemo_run: NeMo-Run does not quote folders for the shell: {folder}")
    if not config.site.account:
        raise UserError("launch.executor=nemo_run needs site.account, without which NeMo-Run submits nothing")
    made = nemo_run.Experiment(sbatch.label(config.run.name), base_dir=str(folder))
    with made:
        before: list[str] = []
        for job in jobs:
            words = [python, str(paths.code), "job", str(paths.root), job.name]
            script = nemo_run.Script(inline=f"cd {shlex.quote(str(workdir))} && exec {shlex.join(words)}")
            executor = executor_of(nemo_run, config, job, paths, folder, workdir)
            before = [made.add(script, executor=executor, name=job.name, dependencies=before)]
        yield made


def executor_of(nemo_run: Any, config: Config, job: Job, paths: LaunchPaths, folder: Path, workdir: Path) -> Any:
    """Return the SlurmExecutor of a job: the sbatch options of our own script under NeMo-Run's names."""
    site, ranks = config.site, job.kind is Kind.RANKS
    given = sbatch.options_by_name(config, job, size_of(config))
    named = ("account", "partition", "qos", "constraint", "mem", "time", "gres", "ntasks-per-node", "nodes")
    known = {name.replace("-", "_"): given.pop(name) for name in named if name in given}
    for name in ("job-name", "open-mode", "signal"):  # NeMo-Run names jobs itself, and signals the ranks
        given.pop(name, None)
    folders, kept = [workdir, paths.root.parent], sbatch.variables(config, job)
    inside = {
        "container_image": container.image(config, workdir),
        "container_mounts": container.mounts(config, folders),
    }
    keep = [f"--container-env={','.join(kept)}"] if site.container.image and kept else []
    variables = {name: shlex.quote(value) for name, value in site.environment.items()}  # NeMo-Run does not quote them
    executor = nemo_run.SlurmExecutor(
        **{name: int(value) if name in ("nodes", "ntasks_per_node") else value for name, value in known.items()},
        signal=f"USR1@{site.signal_seconds}" if ranks else None,
        tunnel=nemo_run.LocalTunnel(job_dir=str(folder / "experiments")),
        packager=nemo_run.Packager(),
        env_vars=variables,
        setup_lines="\n".join([*setup(config), *([RENDEZVOUS] if ranks else [])]),
        srun_args=[*keep, *site.srun],
        additional_parameters={"kill-on-invalid-dep": "yes", **{name: value or True for name, value in given.items()}},
        **(inside if site.container.image else {}),
    )
    executor.retries = RETRIES if ranks else 0
    return executor


def setup(config: Config) -> list[str]:
    """Return the shell lines that load modules and activate the virtual environment, or end the job without it."""
    site = config.site
    lines = [f"module load {shlex.quote(name)}" for name in site.modules]
    activate = site.venv and not site.container.image  # in a container, its Python is called by path
    return [*lines, *([VENV.format(venv=shlex.quote(site.venv))] if activate else [])]
