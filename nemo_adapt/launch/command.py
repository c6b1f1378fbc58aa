"""``nemo-adapt launch recipe=NAME site=NAME [key=value ...]``: submit a run as a chain of Slurm jobs.

``launch.dry_run=true`` prints the scripts and submits nothing.
"""

from dataclasses import replace

from nemo_adapt import pipeline
from nemo_adapt.config import Config, recipes
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.errors import UserError
from nemo_adapt.launch import submit
from nemo_adapt.launch.chain import Size, chain, divided_groups, size_of, with_dp_of_jobs
from nemo_adapt.plan.estimate import in_short, plan_of, shortages
from nemo_adapt.plan.model import models
from nemo_adapt.plan.needs import is_chosen
from nemo_adapt.registry import nearest
from nemo_adapt.run import preflight

EXECUTORS = ("sbatch", "nemo_run")


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a configuration that cannot work, before anything is submitted."""
    config = recipes.of_words(words)
    executor = config.launch.executor
    if executor not in EXECUTORS:
        raise UserError(f"launch.executor={executor!r} is not one of sbatch, nemo_run.{nearest(executor, EXECUTORS)}")
    if config.study.axes:
        raise UserError("the recipe is a study: nemo-adapt study ... study.array=TASKS submits it as a job array")
    check_numbers(config)
    config = with_dp_of_jobs(config)
    steps = pipeline.run_steps(config)
    preflight.check_steps(config, steps)
    if not config.site.container.image:  # in which export.dir may be another folder: see container.check_results
        preflight.check_export(config, steps)
    preflight.precheck(config, steps)
    preflight.check_begun(config, steps, of_run=steps)  # each job sees only its own stages
    jobs, size = chain(steps), size_of(config)
    notes = [*estimates(config, size), *filter(None, [divided_groups(config, size)])]
    if config.launch.dry_run:
        submit.show(config, jobs, size, notes)
    else:
        submit.submit(config, jobs, size, notes=notes)


def estimates(config: Config, size: Size) -> list[str]:
    """Return what ``nemo-adapt plan`` estimates for jobs of this size, if a cluster is chosen. ``UserError`` if the
    training does not fit it, unless ``launch.must_fit`` is off."""
    cluster = config.cluster
    if not is_chosen(cluster):
        return []
    gpus = size.ranks_per_node if cluster.gpus_per_node else 0  # a site may run fewer ranks than a node has GPUs
    config = replace(config, cluster=replace(cluster, nodes=size.nodes, gpus_per_node=gpus))
    plan = plan_of(models(config), config)
    wrong = shortages(plan)
    if wrong and config.launch.must_fit:
        raise UserError(f"cluster={cluster.name}: {wrong[0]}; launch.must_fit=false submits it nevertheless")
    return [f"estimated: {in_short(plan)}", *wrong]
