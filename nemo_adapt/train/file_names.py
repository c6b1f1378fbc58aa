"""Names of files in a training's folder that other modules read too."""

METRICS, HELD_OUT = "metrics.jsonl", "held_out.jsonl"
OWNER, STARTS = "owner.json", "starts.json"
SUMMARY = "summary.json"
SAVED = "saved.json"
"""Holds the step of the newest checkpoint that was ever completed."""
