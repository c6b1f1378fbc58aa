"""Python runs this at its start where this folder is in PYTHONPATH: GPUs made of main memory (``device.cpp``)."""

import ctypes
import os

NODE = "0,1,2,3,4,5,6,7"
"""GPUs of a node, as ``CUDA_VISIBLE_DEVICES`` names them."""

visible = os.environ.get("CUDA_VISIBLE_DEVICES", NODE)
if visible:
    # Before torch: it asks only once whether there is a GPU.
    library = ctypes.CDLL(os.environ["NEMO_ADAPT_STANDIN"], mode=ctypes.RTLD_GLOBAL)

    import standin_groups
    import standin_runtime

    standin_runtime.install(library, visible.count(",") + 1)
    standin_groups.install()
