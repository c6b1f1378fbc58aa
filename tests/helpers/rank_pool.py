"""A pool of ranks, started once and reused, so that each rank imports Megatron once rather than once per test."""

import contextlib
import copy
import dataclasses
import gc
import itertools
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from helpers.forks import context
from torch.distributed import distributed_c10d

from nemo_adapt import devices, patches

Answer = tuple[bool, Any]
"""Whether a rank has succeeded, and its result, or else the error."""

HERE = "127.0.0.1"
"""Where the ranks meet: a file would be looked at every 10 ms, for each group."""
START_SECONDS = 120.0
"""Time for all ranks to import Megatron, on a busy machine."""
GRACE_SECONDS = 5.0
"""Seconds that the other ranks get to report their errors once one has failed."""


class RankPool:
    """``size`` processes, on GPUs if this machine has any; they meet at a port that the system chooses."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[tuple[Any, Connection]] = []
        self._store: dist.TCPStore | None = None

    def run(self, body: Callable[..., Any], *arguments: Any, timeout: float = 60.0) -> list[Any]:
        """Call ``body(rank, *arguments)`` on every rank; return the results in rank order.

        Tensors in the arguments are moved to the rank's device, those in the results back to the CPU. ``body`` must be
        a module's function (spawned processes find it by name). If a rank raises, dies, or takes more than ``timeout``
        seconds, the pool is closed and ``RuntimeError`` says which rank and why; ranks that wait for a failed one are
        not waited for.
        """
        if not self._workers:
            self._start()
            timeout += START_SECONDS
        for _, pipe in self._workers:
            with contextlib.suppress(BrokenPipeError):  # the rank has died, which its answer will report
                pipe.send((body, arguments))
        answers = self._answers(time.monotonic() + timeout)
        wrong = [f"rank {rank}: {answer}" for rank, (is_well, answer) in enumerate(answers) if not is_well]
        if wrong:
            self.close()
            raise RuntimeError("\n".join(wrong))
        return [answer for _, answer in answers]

    def _answers(self, until: float) -> list[Answer]:
        """Wait for the answers of all ranks, in rank order; at most ``GRACE_SECONDS`` more once one has failed."""
        found = [(False, "no answer in time")] * self.size
        asked = {pipe: rank for rank, (_, pipe) in enumerate(self._workers)}
        while asked and (ready := wait(list(asked), max(0.0, until - time.monotonic()))):
            for pipe in ready:
                rank = asked.pop(pipe)
                found[rank] = _answer(*self._workers[rank])
                if not found[rank][0]:
                    until = min(until, time.monotonic() + GRACE_SECONDS)
        return found

    def close(self) -> None:
        """End the processes."""
        for process, _ in self._workers:
            process.kill()
            process.join()
        self._workers, self._store = [], None

    def _start(self) -> None:
        started = context()
        self._store = dist.TCPStore(HERE, 0, is_master=True, wait_for_workers=False)
        for rank in range(self.size):
            here, there = started.Pipe()
            process = started.Process(target=_serve, args=(there, rank, self.size, self._store.port), daemon=True)
            process.start()
            there.close()
            self._workers.append((process, here))


def _answer(process: Any, pipe: Connection) -> Answer:
    """Return what a rank has sent, or its exit code if it has died."""
    try:
        found: Answer = pipe.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        return False, f"has died, exit code {process.exitcode}"
    return found


def _serve(pipe: Connection, rank: int, size: int, port: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    torch.set_num_threads(1)
    from megatron.core import parallel_state
    from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding

    if devices.on_gpu():
        torch.cuda.set_device(rank)
    patches.prepare_megatron()
    here, there = devices.best_device(), torch.device("cpu")
    if not devices.on_gpu():
        _share_sockets()
    store, imported = dist.TCPStore(HERE, port, is_master=False), 0
    gc.collect()
    for call in itertools.count():
        try:
            body, arguments = pipe.recv()
        except EOFError:  # the tests are over, or were killed
            return
        if len(sys.modules) > imported:
            gc.freeze()  # or each collection between calls would traverse torch, Megatron and what bodies import
            imported = len(sys.modules)
        # A new process group for each call: Megatron makes two dozen groups in it, each with threads that poll.
        devices.init_process_group(store=dist.PrefixStore(str(call), store), rank=rank, world_size=size)
        dist.barrier()  # or a rank that sends nothing could finish while another still connects to it
        try:
            answer = (True, moved(body(rank, *moved(arguments, here)), there))
        except BaseException:  # torch's CheckpointException is not an Exception
            answer = (False, traceback.format_exc())
        if answer[0]:
            # Drop everything that keeps the groups alive: their threads, hundreds in time, would keep polling.
            parallel_state.destroy_model_parallel()
            RotaryEmbedding.forward.cache_clear()  # an lru_cache, which holds the modules
            groups = [] if devices.on_gpu() else list(distributed_c10d._world.pg_map)
            dist.destroy_process_group()
            gc.collect()
            _drop(groups)
        pipe.send(answer)


def _share_sockets() -> None:
    """Make all gloo groups of this process share a listening socket and its thread, rather than have one each."""
    gloo = distributed_c10d.ProcessGroupGloo
    device, start = gloo.create_default_device(), gloo.__init__

    def init(self: Any, store: dist.Store, rank: int, size: int, timeout: timedelta) -> None:
        options = gloo._Options()
        options._devices, options._threads, options._timeout = [device], 2, timeout
        start(self, store, rank, size, options)

    gloo.__init__ = init


def _drop(groups: list[Any]) -> None:
    """Drop the last references to gloo groups, all at once: each waits for a thread that looks up every 10 ms."""

    def drop() -> None:
        groups.pop()

    threads = [Thread(target=drop) for _ in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def moved(value: Any, device: torch.device) -> Any:
    """Return ``value`` with all tensors in it moved to ``device``."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (list, tuple)):
        return type(value)(moved(each, device) for each in value)
    if isinstance(value, dict):
        return {key: moved(each, device) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(value, field.name, moved(getattr(value, field.name), device))
    return value
