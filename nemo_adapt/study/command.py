"""``nemo-adapt study recipe=FILE.yaml [key=value ...]``: many runs that differ in what is studied, and tables of it.

Cells whose run has ended well are not run again, so that the same command goes on after any interruption. What cells
have in common (tokenizers, data, converted models) is made once.
"""

import re

from nemo_adapt import recipes
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.run_folder import RunFolder, claim
from nemo_adapt.study import array
from nemo_adapt.study.cells import Cell, cells, check, configuration, seeded
from nemo_adapt.study.work import CELLS, LOG, Job, work

SHARED = "shared"
PLAIN = re.compile(r"[\w./+-]+")
CLUSTER = ("site=", "site.", "launch.")
OURS = ("recipe=", "run.name=", "run.shared=", "study.", *CLUSTER)
"""Words of the command line that are the study's own, and no cell's."""


def main(words: list[str]) -> None:
    """The command. ``UserError`` for a study that cannot be run, and when cells have failed."""
    config = recipes.of_words(words)
    if not config.study.array and (given := [word for word in words if word.startswith(CLUSTER)]):
        raise UserError(f"{given[0]} is for a study on a cluster: study.array=TASKS makes it a job array")
    recipe = next((word.partition("=")[2] for word in words if word.startswith("recipe=")), "blank")
    common = [word for word in words if not word.startswith(OURS)]
    run = RunFolder.of(config)
    found = cells(config.study)
    configs = checked(found, recipe, common, config.study.match)
    jobs = [job_of(cell, configs[cell.values_key], config, recipe, common) for cell in found]
    if config.study.array:
        array.launch(config, jobs, configs)
        return
    claim(run, config)
    say(f"study {config.run.name}: {len(jobs)} cells")
    try:
        failed = work(jobs, config.study.processes)
    finally:  # also of a study that was stopped
        tell(jobs, configs, config)
    if failed:
        raise UserError(said_of(failed, f"{len(failed)} cells failed"))


def said_of(jobs: list[Job], what: str) -> str:
    """One line that names some of the cells that are not done, and the log of the first."""
    names = ", ".join(job.cell.name for job in jobs[:3])
    log = jobs[0].folder / LOG
    return f"study: {what} ({names}{', …' if len(jobs) > 3 else ''}): see {log}; the same command runs them again"


def tell(jobs: list[Job], configs: dict[tuple[str, ...], Config], config: Config) -> None:
    """The report of the cells that are done, and its sentences on the screen."""
    from nemo_adapt.study import report, results, tables

    done = [job for job in jobs if job.done]
    if not done:
        return
    rows = [results.read(job.cell, job.folder, configs[job.cell.values_key]) for job in done]
    axes, out = {axis: list(values) for axis, values in config.study.axes.items()}, RunFolder.of(config).root
    failed = {job.cell.name: job.why for job in jobs if not job.done and job.why}
    report.write(config.run.name, axes, rows, len(jobs), config.study.match, out, failed)
    for sentence in tables.verdicts(axes, rows):
        say(sentence)
    say(f"report: {out / 'study.html'}")


def checked(found: list[Cell], recipe: str, common: list[str], match: str) -> dict[tuple[str, ...], Config]:
    """The configuration of each combination of values; what cannot be run is said before anything is."""
    configs: dict[tuple[str, ...], Config] = {}
    for cell in found:
        if cell.values_key not in configs:
            configs[cell.values_key] = configuration(cell, recipe, common)
            check(cell, configs[cell.values_key], match)
    return configs


def job_of(cell: Cell, own: Config, study: Config, recipe: str, common: list[str]) -> Job:
    """The run of a cell."""
    root = RunFolder.of(study).root
    words = [f"recipe={recipe}", *common, *cell.words, *seeded(cell, own)]
    places = {"run.name": f"{study.run.name}/{CELLS}/{cell.name}", "run.shared": str(root / SHARED)}
    return Job(
        cell,
        root / CELLS / cell.name,
        ["run", *words, *(f"{key}={_quoted(place)}" for key, place in places.items())],
        own.parallel.ranks,
    )


def _quoted(text: str) -> str:
    """A value as Hydra takes it."""
    return text if PLAIN.fullmatch(text) else '"{}"'.format(text.replace('"', '\\"'))
