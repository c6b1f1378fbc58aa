"""``nemo-adapt job RUN NAME``: what the script of a launched job starts, on each of its ranks or once."""

import os
import signal
import sys
from pathlib import Path

from nemo_adapt import cuda_environment, pipeline, ranks, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.launch.chain import Kind, chain
from nemo_adapt.launch.places import Place


def main(words: list[str]) -> None:
    """The command. A training that was asked to stop ends with code 0 here.

    srun would take any other for a failure, and kill the ranks that are still on their way out. That there is more to
    do, our script sees by the manifest that is not there; NeMo-Run's by the code.
    """
    # Kept until the training can take it, and before anything is imported whose threads would not keep it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    if len(words) != 2:
        raise UserError("job takes a run's folder and the name of one of its jobs: nemo-adapt job runs/NAME train")
    root, name = Path(words[0]), words[1]
    config = recipes.read(Place(root).config)
    jobs = {job.name: job for job in chain(pipeline.run_steps(config))}
    if name not in jobs:
        raise UserError(f"{root} has no job {name!r}: {', '.join(jobs)}")
    job = jobs[name]
    if job.kind is Kind.RANKS:
        ranks.adopt_slurm(least=1)
        cuda_environment.set_up(config.parallel)
    try:
        pipeline.run_stages(config, job.stages)
    except SystemExit as ended:
        if ended.code != ranks.MORE_TO_DO or config.launch.executor == "nemo_run":
            raise
    if job.kind is Kind.RANKS:
        sys.stdout.flush()
        os._exit(0)  # threads of communication libraries may crash on the way out, once other ranks are gone
