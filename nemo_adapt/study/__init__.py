"""Studies: many runs that vary chosen settings, and tables of which of them made a difference."""
