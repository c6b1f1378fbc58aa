"""The ``data`` stage: tokenizes text into Megatron indexed datasets."""
