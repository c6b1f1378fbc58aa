"""The paper's tasks, from local files: multiple choice (through lm-evaluation-harness) and generation."""
