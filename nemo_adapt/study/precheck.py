"""Read what the cells of a study will measure and train on, before the first one starts or is submitted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nemo_adapt import pipeline
from nemo_adapt.config import SiteConfig, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.run import preflight
from nemo_adapt.study.work import Job


def precheck(jobs: Sequence[Job], site: SiteConfig) -> list[str]:
    """Return an error for each text or task that cells could not use, read once for all cells that have the same; for
    those whose files can be used, an empty one."""
    found: list[tuple[dict[str, Any], str]] = []
    for job in first_seeds(jobs):
        wanted = recipes.section(job.config, "data", "evaluate")
        if wanted not in [read for read, _ in found]:
            try:
                preflight.precheck(replace(job.config, site=site), pipeline.run_steps(job.config))
                found.append((wanted, ""))
            except UserError as error:
                found.append((wanted, f"study: {', '.join(job.cell.values_key)}: {error}"))
    return [error for _, error in found]


def first_seeds(jobs: Sequence[Job]) -> list[Job]:
    """Return the first cell (seed) of each combination of values."""
    return list({job.cell.values_key: job for job in reversed(jobs)}.values())[::-1]
