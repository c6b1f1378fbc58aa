"""A study as a chain of Slurm jobs: preparation of what the cells share, a job array that runs them, the report.

``launch/`` in the study's folder has the configuration of each cell as it was when the study was launched.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nemo_adapt import pipeline
from nemo_adapt.config import Config, recipes
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.launch import chain, submit
from nemo_adapt.launch.chain import Kind, Size, room_of
from nemo_adapt.launch.paths import LaunchPaths
from nemo_adapt.run import preflight
from nemo_adapt.study.cells import cells
from nemo_adapt.study.precheck import first_seeds, precheck
from nemo_adapt.study.work import CELLS, Job

COMMAND = "study-job"
"""The command that scripts and cells of a launched study run (``nemo_adapt.study.jobs``)."""
PREPARE, REPORT = "prepare", "report"


def launch(config: Config, jobs: Sequence[Job]) -> None:
    """Submit a study, or with ``launch.dry_run`` show what would be submitted.

    Raises ``UserError`` for settings that an array does not support and for cells whose steps or size cannot work.
    """
    if config.launch.executor != "sbatch" or config.launch.nodes:
        raise UserError("a study's array takes neither launch.executor nor launch.nodes: each task is on one node")
    check_numbers(config)  # of the site, too
    tasks = min(config.study.array, len(jobs))
    if tasks < config.study.array:
        say(f"study.array={config.study.array}: there are {len(jobs)} cells, and so {tasks} tasks")
    config = replace(config, study=replace(config.study, array=tasks))
    size = size_of(config, max(job.ranks for job in jobs))
    for job in first_seeds(jobs):
        steps = pipeline.run_steps(job.config)
        try:
            preflight.check_steps(job.config, steps)
            if not config.site.container.image:  # as in launch
                preflight.check_export(job.config, steps)
        except UserError as error:
            raise UserError(f"study: {', '.join(job.cell.values_key)}: {error}") from None
    if wrong := next(filter(None, precheck(jobs, config.site)), ""):
        raise UserError(wrong)
    if config.launch.dry_run:
        submit.show(config, chain_of(tasks), size)
    else:
        submit.submit(config, chain_of(tasks), size, launch_files(jobs))


def chain_of(tasks: int) -> list[chain.Job]:
    """Return the jobs; the report is made even if cells have failed."""
    return [
        chain.Job(PREPARE, (), Kind.CPU, command=COMMAND),
        chain.Job(CELLS, (), Kind.ARRAY, tasks=tasks, command=COMMAND),
        chain.Job(REPORT, (), Kind.CPU, after="afterany", command=COMMAND),
    ]


def size_of(config: Config, ranks: int) -> Size:
    """Return the size of an array task for cells of ``ranks`` ranks; ``UserError`` if they do not fit on one node."""
    gpus, per_node = room_of(config)
    if ranks > per_node:
        raise UserError(
            f"study: a cell has {ranks} ranks (parallel), but a task of an array has one node, of {per_node}: launch "
            "such cells as runs"
        )
    taken = ranks if gpus else ranks * config.study.processes
    return Size(1, ranks, min(gpus, ranks), config.study.processes, is_whole=taken >= per_node)


def launch_files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return name -> content of the files for ``launch/``: the list of cells and the configuration of each."""
    rows = [{"command": job.command, "ranks": job.ranks} for job in jobs]
    configs = {config_of(job.cell.name): recipes.to_yaml(job.config) for job in jobs}
    return {f"{CELLS}.json": json.dumps(rows, indent=1, ensure_ascii=False), **configs}


def config_of(cell: str) -> str:
    """Return the path of a cell's configuration, relative to ``launch/``."""
    return f"{CELLS}/{cell}.yaml"


def read_launched(root: Path) -> tuple[Config, list[Job]]:
    """Return the configuration and the cells of the launched study in ``root``, as they were at launch."""
    paths = LaunchPaths(root)
    config = recipes.read(paths.config)
    rows = json.loads((paths.folder / f"{CELLS}.json").read_text(encoding="utf-8"))
    return config, [
        Job(
            cell,
            root / CELLS / cell.name,
            row["command"],
            partial(recipes.read, paths.folder / config_of(cell.name)),
            row["ranks"],
            (COMMAND, str(root), "cell", cell.name),
        )
        for cell, row in zip(cells(config.study), rows, strict=True)
    ]
