"""``nemo-adapt launch recipe=NAME site=NAME [key=value ...]``: submit a run as a chain of Slurm jobs.

``launch.dry_run=true`` prints the scripts and submits nothing.
"""

from nemo_adapt import pipeline
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.launch import submit
from nemo_adapt.launch.chain import chain, laid_out, size_of
from nemo_adapt.registry import nearest

EXECUTORS = ("sbatch", "nemo_run")


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a configuration that cannot work, before anything is submitted."""
    config = recipes.of_words(words)
    executor = config.launch.executor
    if executor not in EXECUTORS:
        raise UserError(f"launch.executor={executor!r} is not one of sbatch, nemo_run.{nearest(executor, EXECUTORS)}")
    if config.study.axes:
        raise UserError("the recipe is a study: nemo-adapt study ... study.array=TASKS submits it as a job array")
    config = laid_out(config)
    steps = pipeline.run_steps(config)
    pipeline.check_steps(config, steps)
    pipeline.foresee(config, steps)
    pipeline.check_begun(config, steps)  # each job sees only its own stages
    jobs = chain(steps)
    if config.launch.dry_run:
        submit.show(config, jobs, size_of(config))
    else:
        submit.submit(config, jobs, size_of(config))
