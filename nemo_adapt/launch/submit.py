"""Submission of a run: write what the jobs need to the run's folder, then submit the chain to Slurm."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import Any

import nemo_adapt
from nemo_adapt.config import Config, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.launch import container, nemo_run, preparation, sbatch, slurm
from nemo_adapt.launch.chain import Job, Kind, Size
from nemo_adapt.launch.paths import LaunchPaths, cluster_of, submitted
from nemo_adapt.machine.facts import versions
from nemo_adapt.run.run_folder import RunFolder, claim

NEMO_RUN = "nemo_run"
"""The value of ``launch.executor`` that selects NeMo-Run."""
MAIN = '''"""The command line of the package beside this file."""

import platform
import sys

try:
    from nemo_adapt.cli import main
except ModuleNotFoundError as error:
    print(
        f"nemo-adapt: error: {sys.executable} on {platform.node()} has no {error.name}: the dependencies of nemo-adapt "
        "must be installed where jobs run (site.container.image, site.venv)",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    main()
'''


def paths_of(config: Config) -> LaunchPaths:
    """Return the launch paths of a configuration's run."""
    return LaunchPaths(RunFolder.of(config).root.absolute())


def python_of(config: Config) -> str:
    """Return the command for Python on a node: that of the site's virtual environment or container, else this one.

    In a container the image's PATH applies: a virtual environment that is mounted there is not activated, and its
    Python is called by path.
    """
    if config.site.container.image and config.site.venv:
        return f"{config.site.venv}/bin/python"
    return "python" if config.site.venv or config.site.container.image else sys.executable


def scripts(config: Config, jobs: Sequence[Job], size: Size) -> dict[str, str]:
    """Return the script of each job by its name."""
    paths, python = paths_of(config), python_of(config)
    return {job.name: sbatch.script(config, job, size, paths, Path.cwd(), python) for job in jobs}


def check_image(config: Config) -> str:
    """Return a note if the container's image cannot be checked from here, else ""; ``UserError`` if it is missing."""
    image = config.site.container.image
    if image.startswith("~"):
        raise UserError(f"site.container.image={image}: write out the home folder, ~ is not expanded here")
    if not image or (container.is_file(image) and Path(image).is_file()):
        return ""
    if not container.is_file(image):
        return f"site.container.image={image} is in a registry: not checked here whether it can be fetched"
    if Path(image).parent.is_dir():
        raise UserError(f"site.container.image: {image} is missing: build or import it first (docs/nemo.md)")
    return f"site.container.image: {image} cannot be seen from here: each job looks for it on its nodes"


def remarks(config: Config) -> list[str]:
    """Return what the user is told of the site before anything is submitted."""
    notes = (check_image(config), sbatch.short_of_time(config.site), preparation.takes_longer_than_its_limit(config))
    return [note for note in notes if note]


def check_limits(config: Config, jobs: Sequence[Job], size: Size) -> None:
    """Raise ``UserError`` for a job that would wait for ever, as its partition allows less time than it asks for. Not
    checked with a quality of service, which may allow more, and with a partition from the user's environment."""
    longest = cache(slurm.longest)
    for job in jobs:
        given = sbatch.options_by_name(config, job, size)
        partition = given.get("partition", "")
        has_qos = "qos" in given or "SBATCH_QOS" in os.environ
        if has_qos or "time" not in given or (not partition and "SBATCH_PARTITION" in os.environ):
            continue
        most = longest(partition, _clusters(given))
        if most and sbatch.seconds(given["time"]) > sbatch.seconds(most):
            key = "site.time" if job.kind in (Kind.RANKS, Kind.ARRAY) else "site.cpu.time"
            where = f"partition {partition}" if partition else "the default partition"
            raise UserError(
                f"{key}={given['time']} is more than {where} allows ({most}): {job.name} would wait for ever; give a "
                "shorter time limit, or another partition"
            )


def _clusters(given: Mapping[str, str]) -> str:
    """Return the clusters of which sbatch may choose one, for a job with these options; empty: this machine's own."""
    return given.get("clusters") or next((os.environ[name] for name in slurm.CLUSTERS if os.environ.get(name)), "")


def show(config: Config, jobs: Sequence[Job], size: Size, notes: Sequence[str] = ()) -> None:
    """Print the ``notes``, and the scripts and commands that would be submitted."""
    for note in (*notes, *remarks(config)):
        print(f"### {note}")
    if config.launch.executor == NEMO_RUN:
        # NeMo-Run writes files in a dry run, too.
        with tempfile.TemporaryDirectory() as folder, _experiment(config, jobs, Path(folder)) as made:
            made.dryrun()
        return
    texts, paths, after = scripts(config, jobs, size), paths_of(config), ""
    for job in jobs:
        print(f"### {sbatch.shown(sbatch.submission(config, job, paths, Path.cwd(), after))}")
        print(texts[job.name])
        after = f"<number of {job.name}>"


def submit(
    config: Config,
    jobs: Sequence[Job],
    size: Size,
    files: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Submit all jobs of a run, or none; ``UserError`` if Slurm rejects one.

    ``files``: the texts of further files that the jobs need, by their names in ``launch/``. ``notes`` are printed
    before.
    """
    if slurm.missing("sbatch"):
        raise UserError(
            "there is no sbatch on this machine: launch from a login node of a Slurm cluster. `nemo-adapt run` needs "
            "no Slurm, and launch.dry_run=true shows the scripts"
        )
    paths = paths_of(config)
    check_no_live_jobs(paths)
    check_limits(config, jobs, size)
    for note in (*notes, *remarks(config)):
        say(note)
    facts = {"versions": versions(), "commit": commit(), "executor": config.launch.executor}
    noted = partial(record, paths, jobs, facts)
    if config.launch.executor == NEMO_RUN:
        if clusters := _clusters(sbatch.options_by_name(config, jobs[0], size)):
            raise UserError(
                f"launch.executor=nemo_run takes no other cluster ({clusters}): launch.executor=sbatch does"
            )
        numbers = _by_nemo_run(config, jobs, paths)
        noted(numbers, "")
    else:
        numbers = _by_sbatch(config, jobs, size, paths, files or {}, noted)
    root = sbatch.shown([str(RunFolder.of(config).root)])
    say(f"submitted {', '.join(f'{name} ({number})' for name, number in numbers.items())}")
    say(f"progress: nemo-adapt status {root}; to cancel: nemo-adapt cancel {root}")


def _by_sbatch(
    config: Config,
    jobs: Sequence[Job],
    size: Size,
    paths: LaunchPaths,
    files: Mapping[str, str],
    noted: Callable[[Mapping[str, str], str], None],
) -> dict[str, str]:
    """Submit with sbatch; return the ids of the jobs by name, which are ``noted`` after each submission: a job that
    nobody knows would go on in a folder that others are launched into."""
    texts = scripts(config, jobs, size)
    with tempfile.TemporaryDirectory() as folder:  # no run is created if Slurm rejects a job
        for job in jobs:
            path = Path(folder) / paths.script(job.name).name
            path.write_text(texts[job.name], encoding="utf-8")
            words = [*sbatch.submission(config, job, paths, Path.cwd())[:-1], str(path)]
            given = sbatch.options_by_name(config, job, size)
            partition = given.get("partition") or os.environ.get("SBATCH_PARTITION", "")
            if note := slurm.test(words, int(given["nodes"]), partition, _clusters(given)):
                say(note)
    claim(RunFolder.of(config), config)
    write_files(config, paths, texts, files)
    numbers: dict[str, str] = {}
    after = cluster = ""
    try:
        for job in jobs:
            after, cluster = slurm.submit(sbatch.submission(config, job, paths, Path.cwd(), after, cluster))
            numbers[job.name] = after
            noted(numbers, cluster)
    except (UserError, OSError, KeyboardInterrupt):
        if numbers:
            slurm.cancel(list(numbers.values()), cluster)
            paths.jobs.unlink(missing_ok=True)
        raise
    return numbers


def _by_nemo_run(config: Config, jobs: Sequence[Job], paths: LaunchPaths) -> dict[str, str]:
    """The same with NeMo-Run, which has no test before submission."""
    folder = paths.folder / "nemo-run"
    with _experiment(config, jobs, folder) as made:
        claim(RunFolder.of(config), config)
        write_files(config, paths, {}, {})
        made.run(detach=True)
        return {job.name: each.handle.rpartition("/")[2] for job, each in zip(jobs, made.jobs, strict=True)}


def _experiment(config: Config, jobs: Sequence[Job], folder: Path) -> AbstractContextManager[Any]:
    return nemo_run.experiment(config, jobs, paths_of(config), folder, Path.cwd(), python_of(config))


def check_no_live_jobs(paths: LaunchPaths) -> None:
    """``UserError`` while jobs of the run have not ended: two chains would write to the same folder."""
    jobs = submitted(paths.root)
    numbers = {job["id"]: job["name"] for job in jobs}
    states = slurm.states(list(numbers), cluster_of(jobs))
    if why := next((state.unanswered for state in states.values() if state.unanswered), ""):
        raise UserError(f"{paths.root} has been launched, and it is not known whether its jobs have ended: {why}")
    live = [f"{numbers[number]} ({number})" for number, state in states.items() if state.is_live]
    if live:
        raise UserError(
            f"{paths.root} has been launched, and {', '.join(live)} has not ended: nemo-adapt cancel {paths.root} first"
        )


def write_files(config: Config, paths: LaunchPaths, texts: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Write what the jobs need: configuration, a copy of this package, scripts, ``files``, and folders for logs. Delete
    what earlier jobs, which have ended, noted in ``paths.seen``."""
    for folder in (paths.folder, paths.root / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(paths.seen, ignore_errors=True)
    paths.config.write_text(recipes.to_yaml(config), encoding="utf-8")
    package = Path(nemo_adapt.__file__).parent
    code = paths.code.parent / package.name
    if package != code:
        _make_writable(paths.code.parent)
        shutil.rmtree(paths.code.parent, ignore_errors=True)
        # Keep modification times: by them Python and numba recognize their compiled code, which is copied, too.
        shutil.copytree(package, code, copy_function=shutil.copy2)
        _make_writable(code)
        paths.code.write_text(MAIN, encoding="utf-8")
    for name, text in texts.items():
        paths.script(name).write_text(text, encoding="utf-8")
    for name, text in files.items():
        (paths.folder / name).parent.mkdir(exist_ok=True)
        (paths.folder / name).write_text(text, encoding="utf-8")


def _make_writable(folder: Path) -> None:
    """Let this user write to and delete what is in ``folder``, a copy of the package, whose installation may be
    read-only."""
    for place in (Path(name) for name, _, _ in os.walk(folder)):
        place.chmod(place.stat().st_mode | stat.S_IRWXU)


def record(
    paths: LaunchPaths, jobs: Sequence[Job], facts: Mapping[str, Any], numbers: Mapping[str, str], cluster: str
) -> None:
    """Write jobs.json: which of ``jobs`` have been submitted until now, on which ``cluster`` if one was chosen, the
    run's folder, and ``facts`` about the code."""
    done = [job for job in jobs if job.name in numbers]
    where = {"cluster": cluster} if cluster else {}
    rows = [
        {"name": job.name, "id": numbers[job.name], **where, "stages": list(job.stages), "tasks": job.tasks}
        for job in done
    ]
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    write_json(paths.jobs, {"jobs": rows, "root": str(paths.root), "submitted": when, **facts})


def commit() -> str:
    """Return the commit of a checkout, with ``+`` if files have changed since; empty for an installed package, also
    within the user's own checkout."""
    folder = str(Path(nemo_adapt.__file__).parent)
    answers = []
    own = ("ls-files", "--error-unmatch", "__init__.py")
    for words in (own, ("rev-parse", "HEAD"), ("status", "--porcelain", "--", ".")):
        try:
            done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=False)
        except OSError:
            return ""
        if done.returncode:
            return ""
        answers.append(done.stdout.strip())
    _, head, changes = answers
    return head + ("+" if changes else "")
