"""How a command ends whose ranks have failed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from nemo_adapt import ranks
from nemo_adapt.errors import UserError

SLOW_RANK = """
import os, pathlib, signal, sys, time
kind = sys.argv[-1]
pathlib.Path(f"ready{os.environ['RANK']}").touch()
if kind == "takes it later":  # it imports
    time.sleep(1)
    signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(85))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(85))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1, signal.SIGTERM])
    time.sleep(60)
elif kind == "ends well":
    while not signal.sigpending():
        time.sleep(0.05)
elif kind == "dies":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1, signal.SIGTERM])
    time.sleep(60)
elif kind == "fails":
    while not signal.sigpending():
        time.sleep(0.05)
    sys.exit(1)
"""
"""A package whose ranks take their time."""
LAUNCHES = "import sys; from nemo_adapt import ranks; ranks.launch(2, ['rank', 'train', sys.argv[1]]); print('went on')"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize(("kind", "code"), [("takes it later", 85), ("ends well", 85), ("dies", 85), ("fails", 1)])
def test_a_signal_that_ranks_cannot_take_yet_or_any_more(tmp_path, number, kind, code):
    """It comes as soon as they are there."""
    (tmp_path / "ranks" / "nemo_adapt").mkdir(parents=True)
    (tmp_path / "ranks" / "nemo_adapt" / "__init__.py").touch()
    (tmp_path / "ranks" / "nemo_adapt" / "__main__.py").write_text(SLOW_RANK)
    (tmp_path / "launches.py").write_text(LAUNCHES)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "launches.py"), kind],
        cwd=tmp_path / "ranks",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 100
    while not all((tmp_path / "ranks" / f"ready{rank}").exists() for rank in range(2)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == code and "went on" not in out, out
    assert ("asked to stop; run the same" in out) == (kind in ("ends well", "dies")), out


def failed(code, error_file="<N/A>", message=""):
    return SimpleNamespace(
        exitcode=code, error_file=str(error_file), message=message, local_rank=1, signal_name=lambda: "SIGKILL"
    )


def test_what_a_rank_has_reported_is_said_however_it_ended(tmp_path):
    reported = tmp_path / "error.json"
    reported.touch()
    for code in (2, -11):
        with pytest.raises(UserError, match="no such file"):
            ranks._exit_like([failed(-15), failed(code, reported, "no such file")])


@pytest.mark.parametrize(
    ("codes", "handed", "expected"),
    [
        *(([85], (), 85), ([85, 85], (), 85), ([85, -15], (), 85), ([1], (), 1), ([85, 1], (), 1), ([-9], (), 1)),
        # A rank that could not take the signal yet; the launcher has ended the other.
        *(([-10, -15], {10}, 85), ([-10, 85], {10}, 85), ([-15, -15], {15}, 85), ([-10, -10], (), 1)),
        *(([-10, 1], {10}, 1), ([-9, -15], {10}, 1)),
    ],
)
def test_exit_codes(codes, handed, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        ranks._exit_like([failed(code) for code in codes], handed)
    assert ended.value.code == expected
    is_said = expected == 1 and any(code < 0 for code in codes)
    said = capsys.readouterr()
    assert ("rank 1 was killed by SIGKILL" in said.err) == is_said
    assert ("asked to stop" in said.out) == (expected == 85 and 85 not in codes), "a rank that has saved says it"


def test_a_process_that_is_starting_does_not_take_a_training_s_signals():
    """It gets them as soon as it is there, before it can say that they are not for it."""
    for deaf, code in ((True, 0), (False, -signal.SIGUSR1)):
        with ranks.stop_signals_blocked() if deaf else contextlib.nullcontext():
            process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        process.send_signal(signal.SIGUSR1)
        process.communicate(b"\n")
        assert process.returncode == code


@pytest.mark.parametrize(
    ("known", "least", "found"),
    [
        ({}, 1, ("3", "4", "1")),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 1, ("3", "4", "1")),  # as pyxis leaves it in a container of PyTorch's
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, 1, ("0", "2", "0")),  # torchrun's, in a job of Slurm's
        ({}, 5, (None, None, None)),
    ],
)
def test_ranks_of_srun(known, least, found, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # which notes what to put back
        monkeypatch.delenv(name)
    for name, value in {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", **known}.items():
        monkeypatch.setenv(name, value)
    ranks.adopt_slurm(least)
    assert tuple(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")) == found


TELLS = """
import sys
from nemo_adapt import ranks
ranks.FIRST_RANK_SECONDS, ranks.NEXT_RANK_SECONDS = float(sys.argv[1]), 0.0
print("begun", flush=True)
import atexit
atexit.register(print, "at its end")  # as process groups do that wait for the others
if sys.argv[2] == "late":  # TERM comes while a training notes signals, before it fails itself
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


def telling(rank, patience, how="tell"):
    """A rank that has a mistake of the user's to tell, or fails."""
    environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "3"}
    words = [sys.executable, "-c", TELLS, str(patience), how]
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout.readline() == "begun\n"
    return process


def test_the_first_rank_tells_at_once_and_another_if_nobody_ends_it():
    for process in (telling(0, 60.0), telling(2, 0.1)):
        assert process.communicate(timeout=30) == ("", "nemo-adapt: error: no such file\n")
        assert process.returncode == ranks.USER_ERROR


def test_ranks_that_fail_alike_leave_one_traceback_and_one_line():
    for process in (telling(0, 60.0, "fail"), telling(2, 0.1, "fail")):
        out, said = process.communicate(timeout=30)
        assert (out, process.returncode, said.count("ValueError: offset")) == ("", 1, 2)
        line = said.splitlines()[-1]
        assert (
            line.startswith("nemo-adapt: error: rank ")
            and "ValueError: offset must be ... non-negative (see above)" in line
        )
    process = telling(1, 60.0, "fail")
    time.sleep(0.3)
    process.terminate()
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 1


def test_a_rank_that_is_ended_while_the_first_tells_says_nothing():
    process = telling(1, 60.0)
    time.sleep(0.3)  # it waits
    process.terminate()
    assert process.communicate(timeout=30)[1] == "" and process.returncode == ranks.USER_ERROR
    process = telling(1, 60.0, "late")
    assert process.communicate(timeout=30)[1] == "" and process.returncode == ranks.USER_ERROR


def test_children_that_are_started_deaf_hear_neither_signal():
    """In a process that has started no child yet: the first one brings multiprocessing's tracker along."""
    text = """
import multiprocessing, time
from nemo_adapt import ranks
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


LATE = """
import os, signal, subprocess, sys, threading, time
from nemo_adapt import ranks
from nemo_adapt.train.signals import Signals
if sys.argv[1] == "kept":
    signal.pthread_sigmask(signal.SIG_BLOCK, ranks.STOP_SIGNALS)
    os.kill(os.getpid(), signal.SIGUSR1)  # before it can take it
with Signals() as signals:
    print(signals.seen, flush=True)
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
for number in ranks.STOP_SIGNALS:
    os.kill(os.getpid(), number)
print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "said", "code"), [("kept", "True\nalive\n", 0), ("taken", "False\n", -signal.SIGUSR1)]
)
def test_a_signal_before_and_after_a_training(kind, said, code):
    """Where it was kept for the training, the process ends with that, and not by a signal. Others go on without it."""
    done = subprocess.run([sys.executable, "-c", LATE, kind], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (said, code), done.stderr


@pytest.mark.parametrize("stage", ["train", "probe"])
def test_a_rank_keeps_signals_for_a_training_before_it_reads_anything(stage):
    """No other stage takes them: its ranks end, also when their parent has."""
    program = f"""
import signal, sys
from nemo_adapt import cli, ranks, recipes
def read(path):
    print("torch" in sys.modules, sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])) == sorted(ranks.STOP_SIGNALS))
    raise SystemExit
recipes.read = read
signal.pthread_sigmask(signal.SIG_SETMASK, ranks.STOP_SIGNALS if {stage!r} == "probe" else [])
cli.command("rank", [{stage!r}, "config.yaml"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"False {stage == 'train'}\n", done.stderr


def test_a_signal_before_any_rank_is_there_is_not_lost():
    with pytest.raises(SystemExit) as ended, ranks._forwarding():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(5)
    assert ended.value.code == ranks.MORE_TO_DO
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
