"""``nemo-adapt job RUN NAME``: run one job of a launched run. Job scripts start this, on each rank or once."""

import signal
from pathlib import Path

from nemo_adapt import pipeline
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.launch.chain import Kind, chain
from nemo_adapt.launch.paths import LaunchPaths
from nemo_adapt.machine import cuda_environment, ranks


def main(words: list[str]) -> None:
    """Run the command. A training that was asked to stop exits with code 0 here, unless NeMo-Run started it.

    srun would treat any other code as a failure, and kill the ranks that are still exiting. Our script requeues the job
    if the manifest is missing; NeMo-Run's script requeues it by the exit code.
    """
    # USR1 stays blocked until the training handles it. Threads inherit the signal mask, so this comes before imports
    # that start some.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    if len(words) != 2:
        raise UserError("job takes a run's folder and the name of one of its jobs: nemo-adapt job runs/NAME train")
    paths, name = LaunchPaths(Path(words[0])), words[1]
    config = recipes.read(paths.config)
    jobs = {job.name: job for job in chain(pipeline.run_steps(config))}
    if name not in jobs:
        raise UserError(f"{paths.root} has no job {name!r}: {', '.join(jobs)}")
    job = jobs[name]
    if job.kind is Kind.RANKS:
        ranks.adopt_slurm(least=1)
        cuda_environment.set_up(config.parallel, config.train.deterministic)
        _join(paths)
    try:
        pipeline.run_stages(config, job.stages)
    except UserError:
        paths.tell(paths.mistake)
        raise
    except SystemExit as ended:
        if ended.code != ranks.MORE_TO_DO or config.launch.executor == "nemo_run":
            raise


def _join(paths: LaunchPaths) -> None:
    """Wait until all ranks run, and tell the job's script."""
    from nemo_adapt import devices  # torch

    devices.limit_imports()
    devices.start_ranks()
    if ranks.is_first():
        paths.tell(paths.started)
