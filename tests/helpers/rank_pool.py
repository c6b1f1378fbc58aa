"""A pool of ranks, started once and reused, so that each rank imports Megatron once rather than once per test."""

import contextlib
import copy
import dataclasses
import gc
import itertools
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from helpers.forks import context

from nemo_adapt import devices, patches

Answer = tuple[bool, Any]
"""Whether a rank has succeeded, and its result, or else the error."""

START_SECONDS = 120.0
"""Time for all ranks to import Megatron, on a busy machine."""
GRACE_SECONDS = 5.0
"""Seconds that the other ranks get to report their errors once one has failed."""


class RankPool:
    """``size`` processes, on GPUs if this machine has any; their rendezvous is a fresh file, so no port can clash."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[tuple[Any, Connection]] = []
        self._folders = contextlib.ExitStack()

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
        self._workers = []
        self._folders.close()

    def _start(self) -> None:
        started = context()
        meeting = Path(self._folders.enter_context(TemporaryDirectory())) / "rendezvous"
        for rank in range(self.size):
            here, there = started.Pipe()
            process = started.Process(target=_serve, args=(there, rank, self.size, str(meeting)), daemon=True)
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


def _serve(pipe: Connection, rank: int, size: int, meeting: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size))
    torch.set_num_threads(1)
    from megatron.core import parallel_state
    from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding

    if devices.on_gpu():
        torch.cuda.set_device(rank)
    patches.prepare_megatron()
    here, there = devices.best_device(), torch.device("cpu")
    gc.collect()
    gc.freeze()  # or each collection between calls would traverse all of torch and Megatron
    for call in itertools.count():
        try:
            body, arguments = pipe.recv()
        except EOFError:  # the tests are over, or were killed
            return
        # A new process group for each call: Megatron makes two dozen groups in it, each with threads that poll.
        devices.init_process_group(init_method=f"file://{meeting}-{call}", rank=rank, world_size=size)
        dist.barrier()  # or a rank that sends nothing could finish while another still connects to it
        try:
            answer = (True, moved(body(rank, *moved(arguments, here)), there))
        except BaseException:  # torch's CheckpointException is not an Exception
            answer = (False, traceback.format_exc())
        if answer[0]:
            # Drop everything that keeps the groups alive: their threads, hundreds in time, would keep polling.
            parallel_state.destroy_model_parallel()
            RotaryEmbedding.forward.cache_clear()  # an lru_cache, which holds the modules
            dist.destroy_process_group()
            gc.collect()
        pipe.send(answer)


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
