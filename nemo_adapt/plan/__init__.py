"""Estimates of the memory, time and disk that a training needs, before anything is started. No GPU, no torch."""
