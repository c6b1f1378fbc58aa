"""``nemo-adapt status``: how far a run has come, from its folder and from Slurm, without torch."""
