"""Run at Python's start if this folder is in PYTHONPATH: installs GPUs simulated in main memory (``device.cpp``)."""

import ctypes
import os

import standin_engine

NODE = "0,1,2,3,4,5,6,7"
"""The GPUs of a node, as in ``CUDA_VISIBLE_DEVICES``."""

os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # for a GPU it needs Triton, which is not installed
standin_engine.install(os.environ.get("NEMO_ADAPT_STANDIN_ENGINE", ""))
visible = os.environ.get("CUDA_VISIBLE_DEVICES", NODE)
if visible:
    # Before torch is imported: it checks only once whether there is a GPU.
    library = ctypes.CDLL(os.environ["NEMO_ADAPT_STANDIN"], mode=ctypes.RTLD_GLOBAL)

    import standin_attention
    import standin_groups
    import standin_runtime

    from nemo_adapt.machine import gpus

    gpus.SIGNS = ("/",)  # no driver shows that there are GPUs
    standin_runtime.install(library, visible.count(",") + 1)
    standin_groups.install()
    standin_attention.install()
