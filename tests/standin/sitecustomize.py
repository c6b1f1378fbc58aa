"""Python runs this at its start where this folder is in PYTHONPATH: GPUs made of main memory (``device.cpp``)."""

import ctypes
import os

# Before torch: it asks only once whether there is a GPU.
library = ctypes.CDLL(os.environ["NEMO_ADAPT_STANDIN"], mode=ctypes.RTLD_GLOBAL)

import standin_groups  # noqa: E402
import standin_runtime  # noqa: E402

standin_runtime.install(library)
standin_groups.install()
