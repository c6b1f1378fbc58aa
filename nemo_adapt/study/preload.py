"""Preloaded into the fork server of a study without a GPU: also imports what the stages need that run on no ranks."""

import gc
import importlib
import warnings

from nemo_adapt import pipeline, preload_ranks  # noqa: F401  (the stages on ranks)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for step in pipeline.STEPS:
        importlib.import_module(step.module)
gc.freeze()
