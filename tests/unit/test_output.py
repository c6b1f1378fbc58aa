"""Commands whose output pipe is closed before they end, as by ``head -1``; errors of files that are collected."""

import io
import subprocess
import sys

import pytest
from helpers.command import unread

from nemo_adapt import recipes
from nemo_adapt.output import ignore_closed_pipes, is_read
from nemo_adapt.run_folder import RunFolder, claim


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has not started."""
    config = recipes.load("blank", ["run.name=r", f"run.dir={tmp_path}", "model.path=nowhere"])
    claim(RunFolder.of(config), config)
    return str(tmp_path / "r")


@pytest.mark.parametrize(("words", "code"), [(["help"], 0), (["recipes"], 0), (["nonsense"], 2)])
def test_a_closed_pipe_does_not_change_the_exit_code(words, code):
    assert unread(*words) == code


def test_json_is_written_although_the_output_pipe_is_closed(run, tmp_path):
    """``rich``, which prints the tables, would end the command with code 1."""
    assert unread("status", run, f"json={tmp_path}/status.json") == 0
    assert (tmp_path / "status.json").is_file()


def test_status_watch_ends_when_its_pipe_is_closed(run):
    words = [sys.executable, "-m", "nemo_adapt", "status", run, "watch=0.1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_processes_started_after_the_pipe_was_closed_do_not_fail():
    text = """
import subprocess, sys
from nemo_adapt.output import is_read, ignore_closed_pipes
ignore_closed_pipes()
found = [is_read()]
print("to nobody", flush=True)
found += [is_read(), subprocess.run([sys.executable, "-c", "print(1)"], stderr=subprocess.PIPE).returncode]
sys.exit(0 if found == [True, False, 0] else 1)
"""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(timeout=60) == 0


def test_streams_that_are_not_pipes_are_left_unchanged(monkeypatch):
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO()), None):
        monkeypatch.setattr(sys, "stdout", stream)
        ignore_closed_pipes()
        assert sys.stdout is stream and is_read()


@pytest.mark.parametrize(("number", "said"), [("ENOSPC", False), ("EDQUOT", False), ("EIO", True)])
def test_files_collected_after_a_full_disk_print_no_traceback(number, said):
    """Python reports errors of finalizers since 3.13; the disk's was raised before, where a file was written."""
    program = f"""
import errno, sys
from nemo_adapt import cli
class File:
    def __del__(self):
        raise OSError(errno.{number}, "refused")
cli.command = lambda name, words: File() and None
sys.argv = ["nemo-adapt", "doctor"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and ("Traceback" in done.stderr) == said, done.stderr
