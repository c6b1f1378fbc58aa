"""A pool of ranks, spawned once and used again, so that each rank imports Megatron once and not once a test."""

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
from tempfile import mkdtemp
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from nemo_adapt import devices

Answer = tuple[bool, Any]
"""Whether a rank has done what it was asked for, and its answer, or why there is none."""

START_SECONDS = 120.0
"""Time for all ranks to import Megatron, on a busy machine."""
GRACE_SECONDS = 5.0
"""For the others, once one has failed, to say that they have too."""


class RankPool:
    """``size`` processes, on GPUs if this machine has any; they meet through a fresh file, so no port can be taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: list[tuple[Any, Connection]] = []

    def run(self, body: Callable[..., Any], *arguments: Any, timeout: float = 60.0) -> list[Any]:
        """``body(rank, *arguments)`` on every rank; the answers in rank order. Tensors in them are moved to the rank's
        device, and back.

        ``body`` is a function of a module (spawned processes find it by name). If a rank raises, dies, or gives no
        answer in ``timeout`` seconds, the pool is thrown away and an error tells which rank and why. Ranks that wait
        for one that has failed are not waited for.
        """
        if not self._workers:
            self._start()
            timeout += START_SECONDS
        for _, pipe in self._workers:
            with contextlib.suppress(BrokenPipeError):  # it has died: so does its answer say
                pipe.send((body, arguments))
        answers = self._answers(time.monotonic() + timeout)
        wrong = [f"rank {rank}: {answer}" for rank, (is_well, answer) in enumerate(answers) if not is_well]
        if wrong:
            self.close()
            raise RuntimeError("\n".join(wrong))
        return [answer for _, answer in answers]

    def _answers(self, until: float) -> list[Answer]:
        """Those of all ranks, in their order; shortly after the first that has failed."""
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

    def _start(self) -> None:
        # On a CPU ranks are copies of one process that has imported Megatron; a GPU's driver bears no copies.
        context = mp.get_context("spawn" if devices.on_gpu() else "forkserver")
        if not devices.on_gpu():
            context.set_forkserver_preload(["nemo_adapt.study.prepared"])
        meeting = Path(mkdtemp()) / "rendezvous"
        for rank in range(self.size):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, rank, self.size, str(meeting)), daemon=True)
            process.start()
            there.close()
            self._workers.append((process, here))


def _answer(process: Any, pipe: Connection) -> Answer:
    """What a rank has sent, or how it has died."""
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
    devices.prepare_megatron()
    here, there = devices.best_device(), torch.device("cpu")
    gc.collect()
    gc.freeze()  # a collection between calls would go through all of torch and Megatron
    for call in itertools.count():
        try:
            body, arguments = pipe.recv()
        except EOFError:  # the tests are over, or were killed
            return
        # A process group for each call: Megatron makes two dozen groups in it, each with threads that poll.
        devices.init_process_group(init_method=f"file://{meeting}-{call}", rank=rank, world_size=size)
        dist.barrier()  # one that sends nothing would be done and gone while another still connects to it
        try:
            answer = (True, moved(body(rank, *moved(arguments, here)), there))
        except BaseException:  # what torch raises for a checkpoint is no Exception
            answer = (False, traceback.format_exc())
        if answer[0]:
            # What holds the groups, and so their threads, of which hundreds would wake up all the time.
            parallel_state.destroy_model_parallel()
            RotaryEmbedding.forward.cache_clear()  # Megatron remembers its answers together with the module
            dist.destroy_process_group()
            gc.collect()
        pipe.send(answer)


def moved(value: Any, device: torch.device) -> Any:
    """``value`` with all tensors in it on ``device``."""
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
