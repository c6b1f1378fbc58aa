"""Names of the files in a training's folder that others read too."""

METRICS, HELD_OUT = "metrics.jsonl", "held_out.jsonl"
OWNER, STARTS = "owner.json", "starts.json"
SUMMARY = "summary.json"
SAVED = "saved.json"
"""The step of the newest checkpoint that was ever whole."""
