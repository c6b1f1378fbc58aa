"""Signals, errors and exit codes of the command that starts ranks on its machine."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from nemo_adapt.machine import launcher, ranks

LAUNCHES = """
import logging, os, pathlib, signal, sys, time
from nemo_adapt import cli
from nemo_adapt.errors import UserError
from nemo_adapt.machine import launcher, ranks

def main():
    stop_signals = [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP]
    kind, rank = sys.argv[-1], os.environ["RANK"]
    pathlib.Path(f"ready{rank}").write_text(str(os.getpid()))
    if kind == "handles it later":  # after its imports
        time.sleep(1)
        for each in stop_signals:
            signal.signal(each, lambda number, frame: sys.exit(85))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
        time.sleep(60)
    elif kind == "ends well":
        while not signal.sigpending():
            time.sleep(0.05)
    elif kind == "dies":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
        time.sleep(60)
    elif kind == "goes on":
        while not pathlib.Path("sent").exists():
            time.sleep(0.05)
        time.sleep(1)  # a launcher that stops would end this rank meanwhile
    elif kind == "fails":
        while not signal.sigpending():
            time.sleep(0.05)
        sys.exit(1)
    elif kind == "is mistaken while another crashes" and rank == "0":
        while not pathlib.Path("reported").exists():
            time.sleep(0.001)
        os._exit(1)  # at the same time
    elif kind == "hangs" or rank == "0":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop_signals)
        time.sleep(60)
    elif kind == "raises":
        raise ValueError("offset")
    elif kind in ("is mistaken", "is mistaken while another crashes"):
        ranks.report(UserError("no such file; give another"))
        pathlib.Path("reported").touch()
        os.kill(os.getpid(), signal.SIGKILL)  # however it ends

if __name__ == "__main__":
    logging.getLogger("torch").setLevel(logging.CRITICAL)  # its own lines; to make them it imports its compiler
    launcher.PRELOAD = "torch.distributed.elastic.multiprocessing.api"
    try:
        launcher.launch(2, ["train", sys.argv[1]])
    except UserError as error:
        print(f"mistake: {error}")
    else:
        print("went on")
else:
    cli.main = main
"""
"""A command whose ranks react late to a signal, or never."""


def started(tmp_path, kind, *before):
    """Launch two ranks; return the command's process once both run."""
    (tmp_path / "launches.py").write_text(LAUNCHES)
    process = subprocess.Popen(
        [*before, sys.executable, str(tmp_path / "launches.py"), kind],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 100
    while not all((tmp_path / f"ready{rank}").exists() for rank in range(2)):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return process


def launched(tmp_path, kind, number, *before):
    """Launch two ranks, send the command a signal as soon as both run; return its exit code and output."""
    process = started(tmp_path, kind, *before)
    process.send_signal(number)
    (tmp_path / "sent").touch()
    out, _ = process.communicate(timeout=100)
    return process.returncode, out


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(("kind", "code"), [("handles it later", 85), ("ends well", 85), ("dies", 85), ("fails", 1)])
def test_a_signal_that_arrives_while_ranks_block_it(tmp_path, number, kind, code):
    """They install their handlers later, or end before."""
    found, out = launched(tmp_path, kind, number)
    assert found == code and "went on" not in out, out
    assert ("asked to stop; run the same" in out) == (kind in ("ends well", "dies")), out


def test_under_nohup_the_ranks_go_on_when_the_terminal_is_closed(tmp_path):
    code, out = launched(tmp_path, "goes on", signal.SIGHUP, "nohup")
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
    process = started(tmp_path, kind)
    out, _ = process.communicate(timeout=50)
    assert process.returncode == code and said in out and "went on" not in out, out
    assert all(ended(tmp_path, rank) for rank in range(2))


def ended(tmp_path, rank):
    return not psutil.pid_exists(int((tmp_path / f"ready{rank}").read_text()))


def test_a_killed_rank_is_named(tmp_path):
    process = started(tmp_path, "hangs")
    os.kill(int((tmp_path / "ready1").read_text()), signal.SIGKILL)
    out, _ = process.communicate(timeout=50)
    said = "nemo-adapt: error: rank 1 was killed by SIGKILL; run the same command to go on from what is finished"
    assert (process.returncode, out.splitlines()[-1]) == (1, said) and ended(tmp_path, 0)


def test_where_the_fork_server_is_killed_the_command_ends(tmp_path):
    process = started(tmp_path, "dies")
    psutil.Process(int((tmp_path / "ready1").read_text())).parent().kill()
    out, _ = process.communicate(timeout=50)
    assert process.returncode == 1 and "the process that it is a fork of was killed; run the same command" in out, out


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
    (tmp_path / "launches.py").write_text(LAUNCHES)
    (tmp_path / "sent").touch()
    environment = {**os.environ, "TMPDIR": str(long)}
    done = subprocess.run(
        [sys.executable, "launches.py", "goes on"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_ranks_end_when_the_command_is_killed(tmp_path):
    process = started(tmp_path, "dies")
    process.kill()
    process.communicate(timeout=50)
    until = time.monotonic() + 50
    while not all(ended(tmp_path, rank) for rank in range(2)):
        assert time.monotonic() < until
        time.sleep(0.02)


def failed(code):
    return SimpleNamespace(exitcode=code, local_rank=1, signal_name=lambda: "SIGKILL")


@pytest.mark.parametrize(
    ("codes", "forwarded", "expected"),
    [
        *(([85], (), 85), ([85, 85], (), 85), ([1], (), 1), ([85, 1], (), 1), ([-9], (), 1)),
        # The signal killed a rank that had no handler yet.
        *(([-10, 85], {10}, 85), ([-15, -15], {15}, 85), ([-10, -10], (), 1)),
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
