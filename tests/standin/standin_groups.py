"""Process groups for simulated GPUs: NCCL's rules on top of gloo.

As with NCCL, tensors must be on a GPU and contiguous, and messages between two ranks are matched in the order in which
they are sent and received, whatever their tags.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch._C._distributed_c10d import AllgatherOptions, AllToAllOptions, Work

Tensors = Sequence[torch.Tensor]
NAME = "standin"


class Done(Work):
    """A ``Work`` that is complete at once, or when gloo's ``work`` is."""

    def __init__(self, tensors: Any = (), work: Any = None) -> None:
        super().__init__()
        self._tensors, self._work = tensors, work

    def wait(self, *unused: Any) -> bool:
        work, self._work = self._work, None  # gloo's work can be waited for only once, NCCL's any number of times
        return work is None or work.wait()

    def is_completed(self) -> bool:
        return self._work is None or self._work.is_completed()

    def result(self) -> Any:
        return self._tensors

    def get_future(self) -> Any:
        future: Any = torch.futures.Future()
        future.set_result(self._tensors)
        return future


class Group(dist.ProcessGroup):
    """A process group with the methods that torch 2.13 calls for the operations that Megatron and we use."""

    _device_types = (torch.device("cuda"),)

    def __init__(self, store: Any, rank: int, size: int, timeout: timedelta) -> None:
        super().__init__(rank, size)
        self._rank, self._size = rank, size
        self._gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self) -> str:
        return "nccl"

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size

    def _get_backend(self, device: torch.device) -> Any:
        """Return what ``_set_pg_timeout`` sets the time limit of."""
        return self._gloo

    def barrier(self, opts: Any = None) -> Work:
        self._gloo.barrier().wait()
        return Done()

    def broadcast(self, tensors: Tensors, options: Any) -> Work:
        self._gloo.broadcast(seen(tensors), options).wait()
        return Done(tensors)

    def allreduce(self, tensors: Tensors, options: Any) -> Work:
        is_mean = options.reduceOp == dist.ReduceOp.AVG  # gloo has none
        plain = dist.AllreduceOptions()
        plain.reduceOp = dist.ReduceOp.SUM if is_mean else options.reduceOp
        for tensor in seen(tensors):
            self._gloo.allreduce([tensor], plain).wait()
            if is_mean:
                tensor /= self._size
        return Done(tensors)

    allreduce_coalesced = allreduce

    def allgather(self, outputs: Sequence[Tensors], inputs: Tensors, options: Any = None) -> Work:
        self._gloo.allgather([seen(each) for each in outputs], seen(inputs), AllgatherOptions()).wait()
        return Done(outputs)

    def gather(self, outputs: Sequence[Tensors], inputs: Tensors, options: Any) -> Work:
        self._gloo.gather([seen(each) for each in outputs], seen(inputs), options).wait()
        return Done(outputs)

    def scatter(self, outputs: Tensors, inputs: Sequence[Tensors], options: Any) -> Work:
        self._gloo.scatter(seen(outputs), [seen(each) for each in inputs], options).wait()
        return Done(outputs)

    def all_gather_single(self, output: torch.Tensor, given: torch.Tensor, options: Any = None) -> Work:
        self._gloo._allgather_base(*seen((output, given)), AllgatherOptions()).wait()
        return Done([output])

    def all_gather_single_coalesced(self, outputs: Tensors, inputs: Tensors, options: Any = None) -> Work:
        for output, given in zip(outputs, inputs, strict=True):
            self.all_gather_single(output, given)
        return Done(outputs)

    def reduce_scatter_single(self, output: torch.Tensor, given: torch.Tensor, options: Any) -> Work:
        seen((output, given))
        whole = given.clone()
        self.allreduce([whole], options)
        output.copy_(whole.view(self._size, *output.shape)[self._rank])
        return Done([output])

    def reduce_scatter_single_coalesced(self, outputs: Tensors, inputs: Tensors, options: Any) -> Work:
        for output, given in zip(outputs, inputs, strict=True):
            self.reduce_scatter_single(output, given, options)
        return Done(outputs)

    def all_to_all_single(
        self, output: torch.Tensor, given: torch.Tensor, sizes: list[int], given_sizes: list[int], options: Any = None
    ) -> Work:
        self._gloo.alltoall_base(*seen((output, given)), sizes, given_sizes, AllToAllOptions()).wait()
        return Done([output])

    def send(self, tensors: Tensors, to: int, tag: int) -> Work:
        return Done(tensors, self._gloo.send(seen(tensors), to, self._rank))

    def recv(self, tensors: Tensors, source: int, tag: int) -> Work:
        return Done(tensors, self._gloo.recv(seen(tensors), source, source))


def seen(tensors: Tensors) -> list[torch.Tensor]:
    """Return CPU tensors on the same memory; raise NCCL's errors for tensors not on a GPU or not contiguous."""
    for tensor in tensors:
        if not tensor.is_cuda:
            raise RuntimeError("No backend type associated with device type cpu")
        if not tensor.is_contiguous():
            raise ValueError("Tensors must be contiguous")
    return [torch.ops.standin.host(tensor) for tensor in tensors]


def install() -> None:
    """Make torch.distributed create these groups when NCCL's are requested."""
    dist.Backend.register_backend(NAME, Group, devices=["cuda"])
    start, make = c10d.init_process_group, c10d.new_group

    def name(backend: str | None) -> str | None:
        return NAME if backend == "nccl" else backend

    def init_process_group(backend: str | None = None, *arguments: Any, device_id: Any = None, **named: Any) -> None:
        start(name(backend), *arguments, **named)

    def new_group(ranks: Any = None, timeout: Any = None, backend: str | None = None, **named: Any) -> Any:
        return make(ranks, timeout, name(backend), **named)

    for module in (dist, c10d):
        module.init_process_group, module.new_group = init_process_group, new_group
    dist.is_nccl_available = lambda: True
