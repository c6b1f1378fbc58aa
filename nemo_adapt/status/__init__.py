"""``nemo-adapt status``: the progress of a run, read from its folder and from Slurm, without torch."""
