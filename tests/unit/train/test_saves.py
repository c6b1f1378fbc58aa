"""The start of a save: what is kept of the tensors on a GPU once they are copied."""

import gc
import threading
import weakref
from types import SimpleNamespace

import torch

from nemo_adapt.train.checkpoints import _start


def test_tensors_on_a_gpu_are_let_go_once_they_are_copied():
    """Megatron's writer keeps its list until the checkpoint is complete; the next phase needs the memory before."""
    original = torch.ones(4)
    buckets, written, may_end = [original], [], threading.Event()
    kept = weakref.ref(original)
    del original

    def write(rank, tensors, queue):
        may_end.wait(20)
        written.extend(tensors)

    request = SimpleNamespace(
        async_fn=write, async_fn_args=(0, buckets, None), preload_fn=lambda: [each.clone() for each in buckets]
    )
    thread = _start(request)
    gc.collect()
    assert kept() is None and thread.is_alive()
    may_end.set()
    thread.join()
    assert written[0].tolist() == [1, 1, 1, 1] and buckets[0] is written[0]
