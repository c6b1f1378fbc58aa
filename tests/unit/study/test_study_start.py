"""Starting the runs of a study: threads per rank, process groups of one rank without a port, a killed study."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from nemo_adapt.config import recipes
from nemo_adapt.machine import fork_server
from nemo_adapt.run.run_folder import RunFolder, claim
from nemo_adapt.study import start


@pytest.mark.parametrize(("cores", "ranks", "threads"), [(8, 1, "8"), (8, 3, "2"), (2, 4, "1")])
def test_openmp_threads_are_cores_divided_by_ranks(monkeypatch, cores, ranks, threads):
    monkeypatch.setattr(fork_server.workers, "cores", lambda: cores)
    monkeypatch.setattr(fork_server.forkserver, "ensure_running", lambda: None)
    monkeypatch.setattr(os, "environ", {})
    start.context(ranks)
    assert os.environ["OMP_NUM_THREADS"] == threads
    os.environ["OMP_NUM_THREADS"] = "5"
    start.context(ranks)
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_process_group_of_a_single_rank_needs_no_port():
    text = """
import torch, torch.distributed as dist
from nemo_adapt import devices
devices.start_ranks()
total = torch.ones(2, device=devices.best_device())
dist.all_reduce(total)
assert dist.get_world_size() == 1 and total.tolist() == [1, 1]
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASTER_")}
    done = subprocess.run(
        [sys.executable, "-c", text], env={**environment, **start.ALONE}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("alone", "said"), [(True, "0 1"), (False, "None None")])
def test_inherited_rank_variables_are_removed_for_runs_of_several_ranks(tmp_path, alone, said):
    """A PyTorch container may set RANK and WORLD_SIZE for the Slurm task that all runs share."""
    text = f"""
import os
from pathlib import Path
from nemo_adapt import cli
from nemo_adapt.study import start
cli.main = lambda: print(os.environ.get("RANK"), os.environ.get("WORLD_SIZE"), flush=True)
start._run([], Path("{tmp_path}/log"), {alone}, {{}})
"""
    subprocess.run([sys.executable, "-c", text], env={**os.environ, "RANK": "0", "WORLD_SIZE": "1"}, check=True)
    assert (tmp_path / "log").read_text().strip() == said


def test_run_ends_when_its_study_is_killed(tmp_path):
    config = recipes.load("blank", ["run.name=r", f"run.dir={tmp_path}", "model.path=nowhere"])
    claim(RunFolder.of(config), config)
    text = f"""
import sys, time
from pathlib import Path
from nemo_adapt import devices
from nemo_adapt.study import start
devices.on_gpu = lambda: True  # nothing is imported before the fork: it would only take time
run = start.start(start.context(1), ["status", "{tmp_path}/r", "watch=0.1"], Path("{tmp_path}/log"), True, {{}})
print(run.pid, flush=True)
time.sleep(600)
"""
    study = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    try:
        run = psutil.Process(int(study.stdout.readline()))
        until = time.monotonic() + 300
        while not (tmp_path / "log").exists() or "not yet" not in (tmp_path / "log").read_text():
            assert run.is_running() and time.monotonic() < until
            time.sleep(0.05)
    finally:
        study.kill()
    psutil.wait_procs([run], timeout=60)
    assert not run.is_running()
