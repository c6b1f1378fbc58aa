"""The ``data`` stage: text becomes Megatron indexed datasets."""
