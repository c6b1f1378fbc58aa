"""Python runs this at its start where this folder is in PYTHONPATH: GPUs made of main memory (``device.cpp``)."""

import ctypes
import os

import standin_engine

NODE = "0,1,2,3,4,5,6,7"
"""GPUs of a node, as ``CUDA_VISIBLE_DEVICES`` names them."""

os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # a GPU's kernels are made with Triton, which is not there
standin_engine.install(os.environ.get("NEMO_ADAPT_STANDIN_ENGINE", ""))
visible = os.environ.get("CUDA_VISIBLE_DEVICES", NODE)
if visible:
    # Before torch: it asks only once whether there is a GPU.
    library = ctypes.CDLL(os.environ["NEMO_ADAPT_STANDIN"], mode=ctypes.RTLD_GLOBAL)

    import standin_groups
    import standin_runtime

    standin_runtime.install(library, visible.count(",") + 1)
    standin_groups.install()
