"""Environment variables of ranks for CUDA and torch's allocator, which are set before torch is imported."""

import subprocess
import sys

import pytest

from nemo_adapt.config import ParallelConfig
from nemo_adapt.machine import cuda_environment

SEGMENTS = "expandable_segments:True"


@pytest.mark.parametrize(
    ("program", "parallel", "environment", "found"),
    [
        ("echo 9.0; echo 9.0", {"tp": 2}, {}, "1"),
        ("echo 9.0", {"cp": 2}, {}, "1"),
        ("echo 9.0", {"pp": 2, "dp": 2}, {}, None),
        ("echo 10.0", {"tp": 2}, {}, None),
        ("echo 12.0; echo 8.6", {"tp": 2}, {}, "1"),
        ("echo 9.0", {"tp": 2}, {cuda_environment.QUEUES: "8"}, None),
        ("echo '[N/A]'", {"tp": 2}, {}, "1"),
        ("exit 9", {"tp": 2}, {}, "1"),
        (None, {"tp": 2}, {}, None),
    ],
    ids=["hopper", "CP", "no TP or CP", "blackwell", "mixed", "given", "unknown", "nvidia-smi fails", "no GPU"],
)
def test_kernels_start_in_launch_order_under_tp_and_cp(monkeypatch, tmp_path, program, parallel, environment, found):
    if program:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cuda_environment, "DRIVER", tmp_path / "no driver")
    assert cuda_environment.settings(ParallelConfig(**parallel), environment).get(cuda_environment.QUEUES) == found


def test_gpus_without_nvidia_smi_count_as_older_than_blackwell(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cuda_environment, "DRIVER", tmp_path)
    assert cuda_environment.settings(ParallelConfig(tp=2), {})[cuda_environment.QUEUES] == "1"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": SEGMENTS, "PYTORCH_CUDA_ALLOC_CONF": SEGMENTS}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, {}),
        ({"PYTORCH_ALLOC_CONF": ""}, {}),
    ],
)
def test_expandable_segments_unless_the_user_configured_the_allocator(environment, found):
    assert cuda_environment.settings(ParallelConfig(), environment) == found


def test_deterministic_kernels_are_asked_of_all_libraries():
    asked = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "^NVLS", "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0"}
    allocator = {"PYTORCH_ALLOC_CONF": ""}
    assert cuda_environment.settings(ParallelConfig(), allocator, deterministic=True) == asked
    given = {"NCCL_ALGO": "Ring", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "1"}
    found = cuda_environment.settings(ParallelConfig(), given | allocator, deterministic=True)
    assert found == {"NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0"}  # the others are as deterministic


def test_a_rank_sets_the_variables_before_it_imports_torch():
    """A rank that torchrun or Slurm has started; for those that nemo-adapt starts, see test_steps.py."""
    program = """
import os, sys
from nemo_adapt import cli, pipeline
from nemo_adapt.config import recipes
from nemo_adapt.config import Config
config = Config()
config.train.deterministic = True
recipes.of_words = lambda words: config
def begin(*words):
    print("torch" in sys.modules, os.environ.get("PYTORCH_ALLOC_CONF"), os.environ.get("NCCL_ALGO"))
pipeline.run_stage = begin
cli.command("train", ["recipe=demo"])
"""
    environment = {"RANK": "0", "WORLD_SIZE": "1"}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert answer.stdout == f"False {SEGMENTS} ^NVLS\n", answer.stderr
