"""Process groups of ranks, what ranks import, and where attention does not use cuDNN."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from megatron.core.transformer import TransformerConfig

from nemo_adapt import devices
from nemo_adapt.config import EvaluateConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import measure
from nemo_adapt.machine import rendezvous
from nemo_adapt.model import attention
from nemo_adapt.train import held_out


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
def test_two_ranks_on_the_same_gpu_are_named(monkeypatch, nccl, raised, says):
    """Two tasks on a node with one GPU, which Slurm has bound to neither: each sees it as its own."""

    def refuse(tensor):  # NCCL connects, and detects this, at the first message
        raise dist.DistBackendError(f"NCCL error in: NCCLUtils.hpp:268\nLast error:\n{nccl}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(devices, "best_device", lambda: torch.device("cpu"))
    made = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **named: made.append((backend, *named)))
    monkeypatch.setattr(dist, "all_reduce", refuse)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(rendezvous, "store", dist.HashStore)
    with pytest.raises(raised, match=says):
        devices.start_ranks()
    assert made == [("nccl", "store", "rank", "world_size", "timeout")], (
        "and no device, or each send waits for the one before"
    )


def test_a_rank_imports_no_compiler_and_no_models_of_transformers():
    """They are slow to import, and none of them is used on a CPU."""
    program = (
        "import sys; from nemo_adapt import devices; devices.limit_imports(); import nemo_adapt.train.stage; "
        "print({'torch._dynamo.symbolic_convert', 'torch._inductor.compile_fx', 'transformers.modeling_utils'}"
        " & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "set()\n"


def test_the_replacement_of_torch_compile_returns_the_function():
    """Called as a decorator, with and without options, and with a function."""

    def function():
        """Anything."""

    assert devices._uncompiled(function) is devices._uncompiled(function, mode="x") is function
    assert devices._uncompiled(mode="x")(function) is function


def test_all_process_groups_have_the_same_timeout():
    """The default of Megatron's own groups is half an hour. None are made of gloo beside those of the device: many
    clusters' nodes cannot reach each other by the addresses that it takes."""
    program = """
import torch
from megatron.core import parallel_state
from nemo_adapt.config import ParallelConfig
from nemo_adapt.model.build import start_parallel
start_parallel(ParallelConfig(), 1)
named = [(name, group) for name, group in vars(parallel_state).items() if "_EXPERT" not in name]  # no model has experts
groups = [group for _, group in named if isinstance(group, torch.distributed.ProcessGroup)]
print(len(groups) > 9, *{group._get_backend(torch.device("cpu")).options._timeout for group in groups})
print([name for name, group in vars(parallel_state).items() if "GLOO" in name and group is not None])
"""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}
    answer = subprocess.run([sys.executable, "-c", program], env=os.environ | alone, capture_output=True, text=True)
    last = answer.stdout.splitlines()[-2:]  # gloo may print lines before them
    assert last == [f"True {rendezvous.TIMEOUT}", "[]"], answer.stderr


def test_varying_shapes_disables_cudnn_attention_and_restores_it():
    """Also where one context is nested in another, and after an exception."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled
    for before in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(before)
        try:
            with pytest.raises(ZeroDivisionError), devices.varying_shapes():
                with devices.varying_shapes():
                    assert not enabled()
                assert not enabled()
                raise ZeroDivisionError
            assert enabled() == before
        finally:
            torch.backends.cuda.enable_cudnn_sdp(True)


@pytest.mark.parametrize("separate", [False, True])
def test_attention_by_document_runs_without_cudnn(monkeypatch, separate):
    """A sample that is not split into documents has the shape of all others, and may use cuDNN."""
    seen = []

    def attend(query, key, value, **settings):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return query

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    monkeypatch.setattr(attention.parallel_state, "get_context_parallel_world_size", lambda: 1)
    settings = TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=2, attention_dropout=0.0)
    heads = torch.zeros(6, 1, 2, 4)
    documents = torch.tensor([[0, 0, 1, 1, 1, 1]]) if separate else None
    attention.CoreAttention(settings, 1, None, "self")(heads, heads, heads, documents)
    assert seen == ([False, False] if separate else [True]) and torch.backends.cuda.cudnn_sdp_enabled()


def test_held_out_text_is_scored_without_cudnn_attention():
    """With the model in training, and with a Hugging Face model."""
    seen = []

    class Texts(dict):
        def items(self):
            seen.append(torch.backends.cuda.cudnn_sdp_enabled())
            raise ZeroDivisionError

    class Chunk:
        def eval(self):
            Texts().items()

    alone = {f"get_{name}_parallel_world_size": lambda: 1 for name in ("data", "pipeline_model")}
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in {**alone, "get_data_parallel_rank": lambda: 0}.items():
            patch.setattr(held_out.parallel_state, name, answer)
        with pytest.raises(ZeroDivisionError):
            held_out.nats([Chunk()], [], 8, 1, 8)
    candidate = SimpleNamespace(folder=None, tokenizer_path=None, tokenizer=None)
    with pytest.raises(ZeroDivisionError):
        measure.measure("base", candidate, frozenset(), measure.Plan(Texts(), 8, [], EvaluateConfig()), None)
    assert seen == [False, False]


@pytest.mark.parametrize(
    ("files", "rank", "is_used", "said"),
    [
        ({}, "0", False, "cannot be imported and is not used: No module named 'transformer_engine.pytorch'"),
        ({"pytorch": "raise OSError('libcublas.so.12: no such file')"}, "0", False, "is not used: libcublas.so.12: no"),
        ({"pytorch": "raise OSError('libcublas.so.12: no such file')"}, "1", False, ""),
        ({"pytorch": ""}, "0", True, ""),
    ],
    ids=["no torch module", "a library is missing", "only rank 0 prints", "intact"],
)
def test_a_transformer_engine_that_cannot_be_imported_is_not_used(tmp_path, files, rank, is_used, said):
    for name, text in {"__init__": "from transformer_engine import common", "common": "", **files}.items():
        (tmp_path / "transformer_engine").mkdir(exist_ok=True)
        (tmp_path / "transformer_engine" / f"{name}.py").write_text(text)
    program = """
import importlib, sys, torch
torch.cuda.is_available = lambda: True
from nemo_adapt import devices
devices.limit_imports()
def is_there(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
found = {*map(is_there, ("transformer_engine", "transformer_engine.common")), devices.has_transformer_engine()}
print(f"used: {found}")
"""
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RANK": rank},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = answer.stdout.splitlines()
    assert lines[-1] == f"used: {{{is_used}}}" and len(lines) == (2 if said else 1) and said in lines[0]
