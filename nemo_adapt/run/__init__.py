"""A run: its folder, and how a step is checked, built and finished in it."""
