"""Real ranks of a launcher: the first one alone reads the inputs; the others learn its answer, or why there is none.

The first rank's process holds the store, as under Slurm (under torchrun its agent does). No launcher ends a rank here.
"""

import os
import socket
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_adapt.run import store_broadcast

BODY = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
import torch.distributed as dist
from nemo_adapt import devices
from nemo_adapt.config import Config, RunConfig
from nemo_adapt.errors import UserError
from nemo_adapt.run import store_broadcast
from nemo_adapt.run.steps import Step, run_step

rank, opened = int(os.environ["RANK"]), []
sys.addaudithook(lambda event, words: event == "open" and str(words[0]).endswith("log") and opened.append(words[0]))

def build(config, inputs, out):  # on all ranks; their process group meets where their store is
    devices.start_ranks()
    dist.barrier()
    print("built", out.is_dir())
    dist.barrier()

def said(what, action, *words):
    try:
        action(*words)
        print(what, "done")
    except (UserError, ValueError) as error:
        print(what, type(error).__name__, error)

def fail(error):
    raise error

toy = Step("toy", "helpers.toy_stage", lambda config, run: {"log": [Path("log").resolve()]}, "toy", ("resize.seed",))
spread = replace(toy, module="__main__", result="spread", on_ranks=True)
config = Config(run=RunConfig("one", "runs"))
said("mistake", store_broadcast.first_rank_alone, lambda: fail(UserError("no text")))
said("bug", store_broadcast.first_rank_alone, lambda: fail(ValueError("broken")))
for shared in ("", "results"):
    config.run.shared, config.run.name = shared, f"run{shared}"
    for step in (toy, spread, toy, spread):
        run_step(config, step)
config.resize.seed = 5 if rank == 2 else 1  # a node may have another recipe
said("other settings", run_step, config, toy)
config.resize.seed = 1
if rank == 2:
    time.sleep(2)  # meanwhile the first rank has given its last answer
said("last", run_step, config, toy)
store_broadcast.leave()
print("opened", bool(opened), flush=True)
if not rank:
    os._exit(1)
said("death", store_broadcast.told)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def lines(place):
    """The lines that each of three ranks has printed."""
    (place / "log").touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    tests = Path(__file__).parents[2]
    path = os.pathsep.join([str(tests), str(tests.parent)])
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BODY],
            cwd=place,
            env={**os.environ, **meeting, "RANK": str(rank), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        return [process.communicate(timeout=300)[0].splitlines() for process in started]
    finally:
        for process in started:
            process.kill()


def test_only_the_first_rank_reads_inputs_and_does_what_is_done_once(lines, place):
    assert ["opened True" in each for each in lines] == [True, False, False]
    assert (place / "calls").read_text().split() == ["run", "runresults", "runresults"]
    assert [each.count("built True") for each in lines] == [2, 2, 2]


def test_an_error_of_the_first_rank_is_that_of_all(lines):
    assert all("mistake UserError no text" in each for each in lines)
    assert ["bug ValueError broken" in each for each in lines] == [True, False, False]
    assert ["bug UserError broken" in each for each in lines] == [False, True, True]


def test_a_rank_with_other_settings_than_the_first_says_so(lines):
    (said,) = [line for line in lines[2] if line.startswith("other settings")]
    assert "other settings UserError rank 2 on" in said and "than the first rank (resize.seed)" in said
    assert ["other settings done" in each for each in lines] == [True, True, False]


def test_the_first_rank_waits_until_the_others_have_its_last_answer(lines):
    assert all("last done" in each for each in lines)


def test_a_rank_waits_for_an_answer_that_takes_days(monkeypatch):
    asked = iter([False] * 9 + [True])
    store = SimpleNamespace(check=lambda keys: next(asked), get=lambda key: '["made", ""]')
    monkeypatch.setattr(store_broadcast, "_store", lambda: store)
    hours = count(0, 10 * 3600)
    monkeypatch.setattr(store_broadcast.time, "monotonic", lambda: next(hours))
    monkeypatch.setattr(store_broadcast.time, "sleep", lambda seconds: None)
    assert store_broadcast.told() == "made"


def test_ranks_end_when_the_first_one_has_died(lines):
    assert all("death UserError the first rank has ended" in each[-1] for each in lines[1:])
