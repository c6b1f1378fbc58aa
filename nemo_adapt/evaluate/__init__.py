"""The ``evaluate`` stage: compare base and adapted model on the same held-out text and write a report."""
