"""Commands whose output nobody reads to its end."""

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
    """The folder of a run that has not begun."""
    config = recipes.load("blank", ["run.name=r", f"run.dir={tmp_path}", "model.path=nowhere"])
    claim(RunFolder.of(config), config)
    return str(tmp_path / "r")


@pytest.mark.parametrize(("words", "code"), [(["help"], 0), (["recipes"], 0), (["nonsense"], 2)])
def test_the_exit_code_is_what_it_would_be(words, code):
    assert unread(*words) == code


def test_what_is_written_besides_is_written(run, tmp_path):
    """``rich``, which prints the tables, would end the command with code 1."""
    assert unread("status", run, f"json={tmp_path}/status.json") == 0
    assert (tmp_path / "status.json").is_file()


def test_a_watch_ends_with_its_reader(run):
    words = [sys.executable, "-m", "nemo_adapt", "status", run, "watch=0.1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (0, b"")
    process.stderr.close()


def test_processes_that_are_started_later_do_not_fail_either():
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


def test_what_is_no_pipe_stays_as_it_is(monkeypatch):
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO()), None):
        monkeypatch.setattr(sys, "stdout", stream)
        ignore_closed_pipes()
        assert sys.stdout is stream and is_read()
