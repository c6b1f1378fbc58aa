"""``nemo-adapt status``: how far a run has come, from its folder alone, without torch."""
