"""Preloaded into a fork server without a GPU: imports what the stages on ranks need, once for all of them.

A fork needs a process without threads: the imports start none except OpenBLAS's (if OMP_NUM_THREADS is above 1), which
OpenBLAS itself stops before a fork and restarts after it.
"""

import gc
import importlib
import warnings

from nemo_adapt import devices, patches, pipeline

devices.limit_imports()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for step in pipeline.STEPS:
        if step.on_ranks:
            importlib.import_module(step.module)
    patches.prepare_megatron()
    importlib.import_module("torch._dynamo")  # as torch's optimizers do when they are made, compiling or not
gc.freeze()  # no search for garbage goes through all that is imported, and copies its memory
