"""``nemo-adapt cancel RUN``: cancel the jobs of a launched run. Results are kept, and a training saves first."""

from pathlib import Path

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.launch import slurm
from nemo_adapt.launch.paths import LaunchPaths, cluster_of, original_of, submitted


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for a run that was not launched, or is a copy of one."""
    if len(words) != 1 or "=" in words[0]:
        raise UserError("cancel takes the folder of one run: nemo-adapt cancel runs/NAME")
    root = Path(words[0])
    if other := original_of(root):
        raise UserError(
            f"in {LaunchPaths(root).jobs} are the jobs of {other}, of which {root} is a copy: to cancel them, "
            f"nemo-adapt cancel {other}"
        )
    jobs = submitted(root)
    if not jobs:
        raise UserError(f"{root} was not launched (no {LaunchPaths(root).jobs})")
    if slurm.missing("scancel"):
        raise UserError("there is no scancel on this machine: cancel from a login node of the cluster")
    cluster = cluster_of(jobs)
    states = slurm.states([job["id"] for job in jobs], cluster)
    live = [job for job in jobs if states[job["id"]].is_live]
    if not live:
        say("nothing to cancel: all jobs have ended")
        return
    slurm.cancel([job["id"] for job in reversed(live)], cluster)  # last first, so that none starts in between
    names = [f"{job['name']} ({job['id']})" for job in live]
    say(f"cancelled: {', '.join(names)}")
