"""Imports of a run, made once in the process that a study's runs are forked from.

They start no threads but OpenBLAS's, where OMP_NUM_THREADS is above 1, which itself ends and begins them at a fork.
"""

import importlib
import warnings

from nemo_adapt import devices, pipeline

devices.limit_imports()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for step in pipeline.ROAD:
        importlib.import_module(step.module)
    devices.prepare_megatron()
