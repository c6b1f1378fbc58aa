"""Which GPUs ranks and runs of a study use, and the error where there are too few."""

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.machine import gpus


@pytest.mark.parametrize(
    ("variables", "count", "number"),
    [
        ({}, 1, 0),
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, 4, 3),  # torchrun
        ({"LOCAL_RANK": "3"}, 8, 3),  # Slurm: each task sees all GPUs
        ({"LOCAL_RANK": "3"}, 1, 0),  # Slurm has bound one GPU to each task
    ],
)
def test_each_rank_uses_its_own_gpu(monkeypatch, variables, count, number):
    set_environment(monkeypatch, variables)
    assert gpus.of_this_rank(count) == number


@pytest.mark.parametrize(
    ("variables", "count"),
    [({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}, 1), ({"LOCAL_RANK": "4"}, 4)],
)
def test_more_ranks_than_gpus_are_refused(monkeypatch, variables, count):
    set_environment(monkeypatch, variables)
    with pytest.raises(UserError, match=f"ranks on a machine of {count} GPU.*set CUDA_VISIBLE_DEVICES= to compute"):
        gpus.of_this_rank(count)


def test_a_machine_without_gpus_takes_any_number_of_ranks():
    gpus.check_enough(8, 0)
    gpus.check_enough(8, 8)


@pytest.mark.parametrize(
    ("is_there", "visible", "found"), [(False, None, False), (True, None, True), (True, "0", True), (True, "", False)]
)
def test_a_gpu_may_exist_where_there_is_a_driver(monkeypatch, tmp_path, is_there, visible, found):
    (tmp_path / "driver").mkdir()
    monkeypatch.setattr(gpus, "SIGNS", ("/no/such", str(tmp_path / ("driver" if is_there else "another"))))
    set_environment(monkeypatch, {} if visible is None else {gpus.VISIBLE: visible})
    assert gpus.may_exist() == found


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
def test_concurrent_runs_of_a_study_use_different_gpus(monkeypatch, visible, ranks, count, slots):
    set_environment(monkeypatch, {gpus.VISIBLE: visible} if visible else {})
    found = [gpus.of_run(slot, ranks, count) for slot in range(len(slots))]
    assert found == [{gpus.VISIBLE: slot} if slot else {} for slot in slots]


def set_environment(monkeypatch, variables):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", gpus.VISIBLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
