"""The ``evaluate`` stage: base and adapted model on the same held-out bytes, and a report that shows it."""
