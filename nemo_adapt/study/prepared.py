"""Preloaded into the fork server: imports everything that a run needs, once, before a study's runs are forked.

A fork needs a process without threads: the imports start none except OpenBLAS's (if OMP_NUM_THREADS is above 1), which
OpenBLAS itself stops before a fork and restarts after it.
"""

import importlib
import warnings

from nemo_adapt import devices, patches, pipeline

devices.limit_imports()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for step in pipeline.ROAD:
        importlib.import_module(step.module)
    patches.prepare_megatron()
