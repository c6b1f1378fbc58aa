"""``nemo-adapt study recipe=FILE.yaml [key=value ...]``: many runs that vary chosen settings, and a report on them.

Cells that finished are not run again unless their inputs have changed, so the same command continues an interrupted
study. What cells have in common (tokenizers, data, converted models) is made once.
"""

import re
from functools import partial

from nemo_adapt.config import Config, recipes
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.machine.locks import folder_lock
from nemo_adapt.run.run_folder import RunFolder, claim
from nemo_adapt.study import array
from nemo_adapt.study.cells import Cell, Composed, cells, check, configuration, seeded
from nemo_adapt.study.precheck import precheck
from nemo_adapt.study.work import CELLS, LOG, Job, print_changed, run_cells, unfinished

SHARED = "shared"
PLAIN = re.compile(r"[\w./+-]+")
CLUSTER = ("site=", "site.", "launch.")
OURS = ("recipe=", "run.name=", "run.shared=", "study.", *CLUSTER)
"""Prefixes of command-line words that belong to the study and are not passed to cells."""


def main(words: list[str]) -> None:
    """Run the command. Raises ``UserError`` for a study that cannot be run, and when cells have failed."""
    config = recipes.of_words(words)
    if not config.study.array and (given := [word for word in words if word.startswith(CLUSTER)]):
        raise UserError(f"{given[0]} is for a study on a cluster: study.array=TASKS makes it a job array")
    recipe = recipes.chosen_recipe(words)
    common = [word for word in words if not word.startswith(OURS)]
    run = RunFolder.of(config)
    found = cells(config.study)
    configs = checked(found, recipe, common, config.study.match)
    jobs = [job_of(cell, configs[cell.values_key], config, recipe, common) for cell in found]
    check_exports(jobs)
    if config.study.array:
        array.launch(config, jobs)
        return
    wrong = precheck([job for job in jobs if not job.has_ended], config.site)
    if wrong and all(wrong):
        raise UserError(wrong[0])
    for error in filter(None, wrong):  # the other cells work
        say(error)
    claim(run, config)
    say(f"study {config.run.name}: {len(jobs)} cells")
    try:
        failed = run_cells(jobs, config.study.processes)
    finally:  # report also on a study that was stopped
        missing = write_report(jobs, config)
    if failed:
        raise UserError(unfinished_line(failed, f"{len(failed)} cells failed"))
    if missing:
        raise UserError(unfinished_line(missing, f"{len(missing)} of {len(jobs)} cells are not done"))


def unfinished_line(jobs: list[Job], what: str) -> str:
    """Return an error line that names up to three unfinished cells and the log of the first."""
    names = ", ".join(job.cell.name for job in jobs[:3])
    log = jobs[0].folder / LOG
    return f"study: {what} ({names}{', …' if len(jobs) > 3 else ''}): see {log}; the same command runs them again"


def write_report(jobs: list[Job], config: Config) -> list[Job]:
    """Write the report on the cells that are done and print its verdicts; return the cells that are not done."""
    from nemo_adapt.study import plots, report, results, tables

    left = unfinished(jobs)
    missing = [job for job in jobs if job.cell.name in left]
    print_changed("not in the report", left, len(jobs))
    if len(missing) == len(jobs):
        return missing
    rows = [results.read(job.cell, job.folder, job.config) for job in jobs if job.cell.name not in left]
    axes, out = {axis: list(values) for axis, values in config.study.axes.items()}, RunFolder.of(config).root
    failed = {job.cell.name: job.why for job in missing if job.why}
    with folder_lock(out / plots.FOLDER, waits=True):  # another process may run the same study
        report.write(config.run.name, axes, rows, len(jobs), config.study.match, out, failed)
    for sentence in tables.verdicts(axes, rows):
        say(sentence)
    say(f"report: {out / 'study.html'}")
    return missing


def checked(found: list[Cell], recipe: str, common: list[str], match: str) -> dict[tuple[str, ...], Composed]:
    """Return the configuration of each combination of values; ``UserError`` for one that cannot be run."""
    configs: dict[tuple[str, ...], Composed] = {}
    for cell in found:
        if cell.values_key not in configs:
            configs[cell.values_key] = configuration(cell, recipe, common)
            check(cell, configs[cell.values_key].config, match)
    return configs


def check_exports(jobs: list[Job]) -> None:
    """Raise ``UserError`` if cells export to one folder: each would replace the other's model, and none be done."""
    places = [job.config.export.dir for job in jobs if job.config.export.dir]
    if len(set(places)) < len(places):
        raise UserError(
            f"study: export.dir={places[0]} is the folder of several cells: leave it out, then a cell's model is in "
            f"{jobs[0].folder}/export"
        )


def job_of(cell: Cell, own: Composed, study: Config, recipe: str, common: list[str]) -> Job:
    """Return the run of a cell; ``own`` is the configuration of its values."""
    root, seeds = RunFolder.of(study).root, seeded(cell, own.config)
    places = {"run.name": f"{study.run.name}/{CELLS}/{cell.name}", "run.shared": str(root / SHARED)}
    words = [f"recipe={recipe}", *common, *cell.words, *(f"{key}={seed}" for key, seed in seeds.items())]
    return Job(
        cell,
        root / CELLS / cell.name,
        ["run", *words, *(f"{key}={_quoted(place)}" for key, place in places.items())],
        partial(recipes.with_values, own.tree, {**seeds, **places}),
        own.config.parallel.ranks,
    )


def _quoted(text: str) -> str:
    """Quote a value as Hydra's override grammar requires."""
    return text if PLAIN.fullmatch(text) else '"{}"'.format(text.replace('"', '\\"'))
