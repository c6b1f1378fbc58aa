"""The tasks of the paper from local files: choice among answers (through lm-evaluation-harness), and writing."""
