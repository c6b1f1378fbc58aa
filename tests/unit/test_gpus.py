"""Which GPUs ranks and runs take, and what is said where there are too few."""

import subprocess
import sys

import pytest

from nemo_adapt import gpus
from nemo_adapt.config import ParallelConfig
from nemo_adapt.errors import UserError

SEGMENTS = "expandable_segments:True"


@pytest.mark.parametrize(
    ("variables", "count", "number"),
    [
        ({}, 1, 0),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, 4, 3),  # torchrun
        ({"LOCAL_RANK": "3"}, 8, 3),  # Slurm's tasks see all
        ({"LOCAL_RANK": "3"}, 1, 0),  # Slurm has bound one to each
    ],
)
def test_each_rank_takes_its_own(monkeypatch, variables, count, number):
    given(monkeypatch, variables)
    assert gpus.of_this_rank(count) == number


@pytest.mark.parametrize(
    ("variables", "count"),
    [({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, 1), ({"LOCAL_RANK": "4"}, 4)],
)
def test_more_ranks_than_gpus_is_one_line(monkeypatch, variables, count):
    given(monkeypatch, variables)
    with pytest.raises(UserError, match=f"ranks on a machine of {count} GPU.*set CUDA_VISIBLE_DEVICES= to compute"):
        gpus.of_this_rank(count)


def test_a_machine_without_gpus_has_room_for_any_ranks():
    gpus.check_enough(8, 0)
    gpus.check_enough(8, 8)


@pytest.mark.parametrize(
    ("visible", "ranks", "count", "slots"),
    [
        (None, 2, 8, ["0,1", "2,3", "4,5", "6,7", "0,1"]),
        ("4,GPU-5e", 1, 2, ["4", "GPU-5e", "4"]),
        (None, 2, 3, ["0,1", "2,0"]),
        (None, 1, 1, [None, None]),
        (None, 1, 0, [None]),
    ],
)
def test_runs_of_a_study_have_gpus_of_their_own(monkeypatch, visible, ranks, count, slots):
    given(monkeypatch, {gpus.VISIBLE: visible} if visible else {})
    found = [gpus.of_run(slot, ranks, count) for slot in range(len(slots))]
    assert found == [{gpus.VISIBLE: slot} if slot else {} for slot in slots]


@pytest.mark.parametrize(
    ("program", "parallel", "environment", "found"),
    [
        ("echo 9.0; echo 9.0", {"tp": 2}, {}, "1"),
        ("echo 9.0", {"cp": 2}, {}, "1"),
        ("echo 9.0", {"pp": 2, "dp": 2}, {}, None),
        ("echo 10.0", {"tp": 2}, {}, None),
        ("echo 12.0; echo 8.6", {"tp": 2}, {}, "1"),
        ("echo 9.0", {"tp": 2}, {gpus.QUEUES: "8"}, None),
        ("echo '[N/A]'", {"tp": 2}, {}, "1"),
        ("exit 9", {"tp": 2}, {}, "1"),
        (None, {"tp": 2}, {}, None),
    ],
    ids=["hopper", "context", "none sends", "blackwell", "two", "given", "not said", "fails", "no GPU"],
)
def test_kernels_keep_their_order_where_layers_send(monkeypatch, tmp_path, program, parallel, environment, found):
    if program:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.settings(ParallelConfig(**parallel), environment).get(gpus.QUEUES) == found


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": SEGMENTS, "PYTORCH_CUDA_ALLOC_CONF": SEGMENTS}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, {}),
        ({"PYTORCH_ALLOC_CONF": ""}, {}),
    ],
)
def test_segments_grow_unless_the_user_has_said_otherwise(environment, found):
    assert gpus.settings(ParallelConfig(), environment) == found


@pytest.mark.parametrize("words", [["rank", "train", "config.yaml"], ["train", "recipe=demo"]])
def test_a_rank_is_told_before_it_imports_torch(words):
    """One that was started here, and one of a launcher's."""
    program = f"""
import os, sys
from nemo_adapt import cli, pipeline, recipes
from nemo_adapt.config import Config
recipes.read = recipes.of_words = lambda words: Config()
def begin(*words):
    print("torch" in sys.modules, os.environ.get("PYTORCH_ALLOC_CONF"))
pipeline.run_as_rank = pipeline.run_stage = begin
cli.command({words[0]!r}, {words[1:]!r})
"""
    environment = {"RANK": "0", "WORLD_SIZE": "1"}
    answer = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert answer.stdout == f"False {SEGMENTS}\n", answer.stderr


def given(monkeypatch, variables):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", gpus.VISIBLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
