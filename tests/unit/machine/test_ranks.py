"""Signals, errors and exit codes of ranks, and of the command that starts them."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from nemo_adapt.machine import ranks
from nemo_adapt.train.signals import Signals

STAGE = """
import os, pathlib, sys, time
from nemo_adapt import cli, pipeline
from nemo_adapt.console.progress import Bar
from nemo_adapt.machine.workers import share, shared_counters

def work(numbers, seen):
    for number in numbers:
        pathlib.Path(f"begun{os.getpid()}").touch()
        seen(1.0)
        time.sleep(0.1)

def other():
    work(shared_counters().take(10_000), shared_counters().advance)

def stage(config):
    with Bar("work", 10_000, "jobs") as bar:
        share(10_000, 3, bar, work, other)

if __name__ == "__main__":
    pipeline.run_all = stage
    sys.argv = ["nemo-adapt", "run", "run.name=x", "model.path=y"]
    cli.main()
"""
"""A run in a stage that several processes share."""


@pytest.mark.parametrize("all_processes", [False, True])
def test_usr1_in_another_stage_than_training_asks_to_run_again(tmp_path, all_processes):
    """Slurm sends it before a time limit: to the command, or to all processes of a step."""
    (tmp_path / "stage.py").write_text(STAGE)
    process = subprocess.Popen(
        [sys.executable, "stage.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while len(list(tmp_path.glob("begun*"))) < 3:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    (os.killpg if all_processes else os.kill)(process.pid, signal.SIGUSR1)
    out, _ = process.communicate(timeout=100)
    assert (process.returncode, "asked to stop; run the same command to go on" in out) == (85, True), out
    assert "error" not in out and "Traceback" not in out


def test_a_starting_process_is_not_killed_by_a_training_s_stop_signal():
    """srun sends signals to all processes of a rank, also to one that has no handler yet."""
    for blocked, code in ((True, 0), (False, -signal.SIGUSR1)):
        with ranks.stop_signals_blocked() if blocked else contextlib.nullcontext():
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        process.send_signal(signal.SIGUSR1)
        process.communicate(b"\n")
        assert process.returncode == code


BATCH = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
"""What Slurm 22.05 gives the script of ``sbatch --ntasks=4``, beside the tasks that its srun may start."""


@pytest.mark.parametrize(
    ("known", "least", "found"),
    [
        ({}, 1, ("3", "4", "1")),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 1, ("3", "4", "1")),  # as pyxis sets it in a PyTorch container
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 1, ("0", "2", "0")),  # torchrun's, in a Slurm job
        ({}, 5, (None, None, None)),
    ],
)
def test_ranks_started_by_srun_get_torchrun_s_variables(known, least, found, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    for name, value in {
        **BATCH,
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_LOCALID": "1",
        **known,
    }.items():
        monkeypatch.setenv(name, value)
    ranks.adopt_slurm(least)
    assert tuple(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")) == found


def test_a_batch_script_without_srun_is_not_a_rank(monkeypatch):
    """It would wait for tasks that it has not started."""
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    for name, value in BATCH.items():
        monkeypatch.setenv(name, value)
    ranks.adopt_slurm()
    assert not ranks.already_started()


ENDS = """
import atexit, os, sys
from nemo_adapt import cli
atexit.register(print, "Python's own end")
def command(name, words):
    print("done", end=" ")
    if words[0] != "0":
        raise SystemExit(int(words[0]))
cli.command = command
cli.main()
"""


@pytest.mark.parametrize("code", [0, ranks.MORE_TO_DO])
@pytest.mark.parametrize("rank", [{}, {"RANK": "1", "WORLD_SIZE": "2"}])
def test_a_rank_ends_without_the_end_of_python(code, rank):
    """There threads of gloo and of autograd sometimes abort the process: its work was done, and the run fails."""
    words = [sys.executable, "-c", ENDS, "rank", str(code)]
    ended = subprocess.run(words, env={**os.environ, **rank}, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ended.stdout == ("done " if rank else "done Python's own end\n")


REPORTS = """
import sys
from nemo_adapt.machine import ranks
ranks.FIRST_RANK_SECONDS, ranks.NEXT_RANK_SECONDS = float(sys.argv[1]), 0.0
print("begun", flush=True)
import atexit
atexit.register(print, "at its end")  # stands for process groups, which wait for other ranks
if sys.argv[2] == "late":  # TERM arrives while a training records signals, before this rank fails
    import os, signal
    from nemo_adapt.train.signals import Signals
    try:
        with Signals():
            os.kill(os.getpid(), signal.SIGTERM)
            raise Exception("no such file")
    except Exception as error:
        ranks.print_user_error(error)
if sys.argv[2] == "tell":
    ranks.print_user_error(Exception("no such file"))
else:
    ranks.fail(ValueError("offset must be\\n1\\n\\nnon-negative"))
"""


def reporting_rank(rank, patience, how="tell"):
    """Start a rank that has a user error to print, or fails."""
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "3"}
    words = [sys.executable, "-c", REPORTS, str(patience), how]
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "begun\n"
    return process


def test_rank_0_prints_a_user_error_at_once_and_others_after_a_wait():
    for process in (reporting_rank(0, 60.0), reporting_rank(2, 0.1)):
        assert process.communicate(timeout=30) == ("", "nemo-adapt: error: no such file\n")
        assert process.returncode == ranks.USER_ERROR


def test_ranks_of_a_node_wait_for_each_other(monkeypatch):
    """torchrun ends those of its own node when one exits, and not those of other nodes."""
    waits = []
    monkeypatch.setattr(ranks.time, "sleep", waits.append)
    monkeypatch.setattr(ranks.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(ranks.signal, "pthread_sigmask", lambda how, numbers: None)
    for rank in range(64):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank % 8))
        ranks._wait_for_earlier_rank(1)
    assert len(waits) == 63 and max(waits) < 25
    for node in (waits[:7], *(waits[at : at + 8] for at in range(7, 63, 8))):
        assert node == sorted(set(node))


def test_ranks_that_fail_alike_print_one_traceback_and_one_line():
    for process in (reporting_rank(0, 60.0, "fail"), reporting_rank(2, 0.1, "fail")):
        out, said = process.communicate(timeout=30)
        assert (out, process.returncode, said.count("ValueError: offset")) == ("", 1, 2)
        line = said.splitlines()[-1]
        assert (
            line.startswith("nemo-adapt: error: rank ")
            and "ValueError: offset must be ... non-negative (see above)" in line
        )
    process = reporting_rank(1, 60.0, "fail")
    time.sleep(0.3)
    process.terminate()
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 1


def test_a_rank_terminated_while_rank_0_prints_the_error_prints_nothing():
    process = reporting_rank(1, 60.0)
    time.sleep(0.3)  # it waits for rank 0
    process.terminate()
    assert process.communicate(timeout=30)[1] == "" and process.returncode == ranks.USER_ERROR
    process = reporting_rank(1, 60.0, "late")
    assert process.communicate(timeout=30)[1] == "" and process.returncode == ranks.USER_ERROR


def test_multiprocessing_children_start_with_stop_signals_blocked():
    """Also the first child: multiprocessing starts its resource tracker with it, which unblocks TERM."""
    text = """
import multiprocessing, time
from nemo_adapt.machine import ranks
with ranks.stop_signals_blocked():
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    child.start()
facts = dict(line.split(":", 1) for line in open(f"/proc/{child.pid}/status"))
child.kill()
blocked = int(facts["SigBlk"], 16)
assert all(blocked >> (number - 1) & 1 for number in ranks.STOP_SIGNALS), facts["SigBlk"]
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SIGNALS_AROUND_TRAINING = """
import os, signal, subprocess, sys, threading, time
from nemo_adapt.machine import ranks
from nemo_adapt.train.signals import Signals
if sys.argv[1] == "blocked":
    signal.pthread_sigmask(signal.SIG_BLOCK, ranks.STOP_SIGNALS)
    os.kill(os.getpid(), signal.SIGUSR1)  # before it has a handler
with Signals() as signals:
    print(signals.seen, flush=True)
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
for number in ranks.STOP_SIGNALS:
    os.kill(os.getpid(), number)
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "said", "code"), [("blocked", "True\nalive\n", 0), ("not blocked", "False\n", -signal.SIGUSR1)]
)
def test_stop_signals_before_and_after_a_training(kind, said, code):
    """An earlier one that was blocked reaches the training; later ones are ignored then, and kill other processes."""
    done = subprocess.run([sys.executable, "-c", SIGNALS_AROUND_TRAINING, kind], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (said, code), done.stderr


def test_a_training_leaves_hup_ignored_as_nohup_has_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not signals.seen
    finally:
        signal.signal(signal.SIGHUP, before)
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGHUP)
    assert signals.seen and signal.getsignal(signal.SIGHUP) == before


@pytest.mark.parametrize("stage", ["train", "probe"])
def test_a_training_rank_blocks_stop_signals_before_it_reads_anything(stage):
    """Ranks of other stages unblock them, so that they end at a signal, also at the one of their parent's end."""
    program = f"""
import signal, sys
from nemo_adapt import cli
from nemo_adapt.config import recipes
from nemo_adapt.machine import ranks
def read(path):
    print("torch" in sys.modules, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])) == sorted(ranks.STOP_SIGNALS))
    raise SystemExit
recipes.read = read
signal.pthread_sigmask(signal.SIG_SETMASK, ranks.STOP_SIGNALS if {stage!r} == "probe" else [])
cli.command("rank", [{stage!r}, "config.yaml"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"False {stage == 'train'}\n", done.stderr
