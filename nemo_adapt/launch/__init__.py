"""A run as a chain of Slurm jobs: scripts, submission, and what the jobs themselves do."""
