"""What is asked of CUDA before there are ranks, and what a rank imports where there is none."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from nemo_adapt import devices
from nemo_adapt.errors import UserError

QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


@pytest.mark.parametrize(
    ("generation", "sends_in_layers", "given", "found"),
    [(9, True, None, "1"), (9, False, None, None), (10, True, None, None), (9, True, "8", "8"), (0, True, None, None)],
    ids=["hopper", "data parallel alone", "blackwell", "the environment's", "no GPU"],
)
def test_kernels_keep_their_order_where_layers_send(monkeypatch, generation, sends_in_layers, given, found):
    monkeypatch.setenv(QUEUES, given or "")  # whatever is set below is put back
    if not given:
        monkeypatch.delenv(QUEUES)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: generation > 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (generation, 0))
    devices.keep_order(sends_in_layers)
    assert os.environ.get(QUEUES) == found


@pytest.mark.parametrize(
    ("nccl", "raised", "says"),
    [
        (
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device f000",
            UserError,
            "rank 1 and rank 0 have taken",
        ),
        ("socketStartConnect: Connect failed", dist.DistBackendError, "Connect failed"),
    ],
)
def test_two_ranks_on_one_gpu_are_named(monkeypatch, nccl, raised, says):
    """Two tasks that Slurm has bound to no GPU, on a node of one: each sees it as its own."""

    def refuse(*unused, **named):
        raise dist.DistBackendError(f"NCCL error in: NCCLUtils.hpp:268\nLast error:\n{nccl}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(dist, "init_process_group", refuse)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(raised, match=says):
        devices.start_ranks()


def test_a_rank_imports_no_compiler_and_no_models_of_transformers():
    """They are slow to import, and none of them is used on a CPU."""
    program = (
        "import sys; from nemo_adapt import devices; devices.limit_imports(); import nemo_adapt.train.stage; "
        "print({'torch._inductor.compile_fx', 'transformers.modeling_utils'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "set()\n"


def test_what_asks_to_be_compiled_stays_as_it_is():
    """As a decorator, with options and without, and as a function."""

    def function():
        """Anything."""

    assert devices._uncompiled(function) is devices._uncompiled(function, mode="x") is function
    assert devices._uncompiled(mode="x")(function) is function
