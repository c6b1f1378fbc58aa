"""Running as a chain of Slurm jobs: job scripts, submission, and the command that the jobs run."""
