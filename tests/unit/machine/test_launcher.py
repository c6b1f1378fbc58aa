"""Signals, errors and exit codes of the command that starts ranks on its machine."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
from helpers import forks
from helpers.trainings import PATIENCE
from ranks import launch_bodies
from torch.distributed.launcher import api

from nemo_adapt.machine import launcher, ranks


def started(tmp_path, kind, under_nohup=False):
    """Launch two ranks; return the command once both run."""
    log = tmp_path / "log"
    temporary(tmp_path).mkdir()
    process = forks.context().Process(target=launch_bodies.launch, args=(kind, tmp_path, log, under_nohup))
    process.start()
    command = forks.Fork(process, log)
    wait_until(command, lambda: all((tmp_path / f"ready{rank}").exists() for rank in range(2)))
    return command


def wait_until(command, is_so):
    """Wait for something while a command runs."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert command.poll() is None and time.monotonic() < until, command.log.read_text()
        time.sleep(0.02)


def temporary(tmp_path):
    return tmp_path / "temporary"


def launched(tmp_path, kind, number, under_nohup=False):
    """Launch two ranks, send the command a signal as soon as both run; return its exit code and output."""
    command = started(tmp_path, kind, under_nohup)
    command.send_signal(number)
    (tmp_path / "sent").touch()
    return command.end(PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("kind", "code"), [("handles it later", 85), ("ends well", 85), ("dies", 85), ("fails", 1)])
def test_a_signal_that_arrives_while_ranks_block_it(tmp_path, number, kind, code):
    """They install their handlers later, or end before."""
    found, out = launched(tmp_path, kind, number)
    assert found == code and "went on" not in out, out
    assert ("asked to stop; run the same" in out) == (kind in ("ends well", "dies")), out
    assert not list(temporary(tmp_path).iterdir())


def test_a_second_control_c_ends_ranks_that_are_within_a_step(tmp_path):
    command = started(tmp_path, "is within a step")
    wait_until(command, lambda: all((tmp_path / f"within{rank}").exists() for rank in range(2)))
    command.send_signal(signal.SIGINT)
    wait_until(command, lambda: "Control-C again ends at once" in command.log.read_text())
    assert not any(ended(tmp_path, rank) for rank in range(2))
    command.send_signal(signal.SIGINT)
    code, out = command.end(PATIENCE)
    assert code == 1 and "KeyboardInterrupt" in out, out  # of which the command makes one line
    assert all(ended(tmp_path, rank) for rank in range(2))


def test_under_nohup_the_ranks_go_on_when_the_terminal_is_closed(tmp_path):
    code, out = launched(tmp_path, "goes on", signal.SIGHUP, under_nohup=True)
    assert (code, out.splitlines()[-1]) == (0, "went on"), out


def test_a_launcher_that_quits_says_so_in_one_line(tmp_path):
    code, out = launched(tmp_path, "dies", signal.SIGQUIT)
    said = "the ranks were killed by SIGQUIT; run the same command to go on from what is finished"
    assert (code, out.splitlines()[-1]) == (128 + signal.SIGQUIT, f"nemo-adapt: error: {said}"), out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("raises", 1, "ValueError: offset\n"),
        ("is mistaken", 0, "mistake: no such file; give another\n"),
        ("is mistaken while another crashes", 0, "mistake: no such file; give another\n"),
    ],
)
def test_when_one_rank_fails_the_others_are_ended(tmp_path, kind, code, said):
    found, out = started(tmp_path, kind).end(PATIENCE)
    assert found == code and said in out and "went on" not in out, out
    assert all(ended(tmp_path, rank) for rank in range(2))
    assert not list(temporary(tmp_path).iterdir())


def ended(tmp_path, rank):
    return not psutil.pid_exists(int((tmp_path / f"ready{rank}").read_text()))


def test_a_killed_rank_is_named(tmp_path):
    command = started(tmp_path, "hangs")
    os.kill(int((tmp_path / "ready1").read_text()), signal.SIGKILL)
    code, out = command.end(PATIENCE)
    said = "nemo-adapt: error: rank 1 was killed by SIGKILL; run the same command to go on from what is finished"
    assert (code, out.splitlines()[-1]) == (1, said) and ended(tmp_path, 0)


def test_no_signal_of_a_user_reaches_a_fork_server_that_imports():
    """Control-C goes to all processes of a terminal: the server would print a traceback after the command's line."""
    program = "import multiprocessing.forkserver as made; from nemo_adapt.machine import fork_server; "
    program += "fork_server.running('os', 1); status = open(f'/proc/{made._forkserver._forkserver_pid}/status'); "
    program += "print([line.split()[1] for line in status if line.startswith('SigBlk')][0])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    blocked = int(done.stdout, 16)
    assert all(blocked >> (number - 1) & 1 for number in (signal.SIGINT, *ranks.STOP_SIGNALS))


def test_where_the_fork_server_is_killed_the_command_ends(tmp_path):
    command = started(tmp_path, "dies")
    psutil.Process(int((tmp_path / "ready1").read_text())).parent().kill()
    code, out = command.end(PATIENCE)
    assert code == 1 and "the process that it is a fork of was killed; run the same command" in out, out


@pytest.mark.parametrize("failure", ["import os; os._exit(1)", "raise ValueError('no such device')"])
def test_imports_that_fail_are_said(tmp_path, failure):
    (tmp_path / "broken.py").write_text(failure)
    program = "from nemo_adapt.machine import launcher\nlauncher.PRELOAD = 'broken'\nlauncher.launch(2, ['train'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and ("no such device" in done.stderr) == ("device" in failure), done.stderr
    line = "nemo-adapt: error: the process that imports for all ranks was killed, or failed (see above); run"
    assert done.stderr.splitlines()[-1].startswith(line)


def test_ranks_meet_where_the_path_of_the_temporary_folder_is_long(tmp_path):
    """A Unix socket's path has at most 107 characters."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    program = "import time; from nemo_adapt.machine import fork_server; server = fork_server.running('os', 1); "
    program += "process = fork_server.start(server, time.sleep, 0); process.join(); print(process.exitcode)"
    environment = {**os.environ, "TMPDIR": str(long)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert not list(long.iterdir())


@pytest.mark.parametrize("kind", ["dies", "is done", "waits for others"])
def test_ranks_end_when_the_command_is_killed(tmp_path, kind):
    """Also one that has done its work, ignores TERM as a training does then, and waits for the launcher to end it, and
    one that cannot handle TERM yet, and waits for ranks that there may never be."""
    command = started(tmp_path, kind)
    command.send_signal(signal.SIGKILL)
    command.end(PATIENCE)
    until = time.monotonic() + PATIENCE
    while not all(ended(tmp_path, rank) for rank in range(2)):
        assert time.monotonic() < until
        time.sleep(0.02)


def failed(code):
    return SimpleNamespace(exitcode=code, local_rank=1, signal_name=lambda: "SIGKILL")


@pytest.mark.parametrize(
    ("codes", "forwarded", "expected"),
    [
        *(([85], (), 85), ([85, 85], (), 85), ([85, -15], (), 85), ([1], (), 1), ([85, 1], (), 1), ([-9], (), 1)),
        # The signal killed a rank that had no handler yet; the launcher has terminated the other.
        *(([-10, -15], {10}, 85), ([-10, 85], {10}, 85), ([-15, -15], {15}, 85), ([-10, -10], (), 1)),
        *(([-10, 1], {10}, 1), ([-9, -15], {10}, 1)),
    ],
)
def test_exit_codes(codes, forwarded, expected, capsys):
    with pytest.raises(SystemExit) as ended:
        launcher._exit_like([failed(code) for code in codes], forwarded)
    assert ended.value.code == expected
    is_said = expected == 1 and any(code < 0 for code in codes)
    said = capsys.readouterr()
    assert ("rank 1 was killed by SIGKILL" in said.err) == is_said
    assert ("asked to stop" in said.out) == (expected == 85 and 85 not in codes), "a rank that has saved says it"


def test_a_signal_before_any_rank_runs_is_not_lost_and_said(capsys):
    """Other children of the process do not get it."""
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    with pytest.raises(SystemExit) as ended, launcher._forwarding():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(5)
    assert ended.value.code == ranks.MORE_TO_DO
    assert capsys.readouterr().out == "asked to stop; run the same command to go on\n"
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert other.is_alive()
    other.kill()
    other.join()


def test_a_signal_during_the_imports_is_not_lost_where_python_ignores_exceptions(monkeypatch):
    """In a callback of an import."""

    def running(preload, processes):
        with contextlib.suppress(SystemExit):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(5)

    def never(*given):
        raise AssertionError("no rank is to be started")

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(launcher.fork_server, "running", running)
    monkeypatch.setattr(api, "elastic_launch", never)
    with pytest.raises(SystemExit) as ended:
        launcher.launch(2, ["train"])
    assert ended.value.code == ranks.MORE_TO_DO
