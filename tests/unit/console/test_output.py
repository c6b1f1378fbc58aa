"""Commands whose output pipe or terminal is closed before they end (``head -1``), errors of files when collected."""

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers.command import unread

from nemo_adapt import cli
from nemo_adapt.config import recipes
from nemo_adapt.console.output import ignore_closed_pipes, is_read
from nemo_adapt.run.run_folder import RunFolder, claim


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


@pytest.mark.parametrize("encoding", ["iso-8859-9", "ascii", "utf-8"])
def test_letters_that_the_locale_does_not_have_are_escaped(tmp_path, encoding):
    """As Devanagari on a machine with a Turkish locale; a name that is no text ends no command in UTF-8 either."""
    config = recipes.load("blank", ["run.name=हिन्दी", f"run.dir={tmp_path}", "model.path=nowhere"])
    claim(RunFolder.of(config), config)
    no_text = tmp_path / os.fsdecode(b"\xff")
    no_text.symlink_to("हिन्दी")
    for folder in (tmp_path / "हिन्दी", no_text):
        words = [sys.executable, "-m", "nemo_adapt", "status", folder, "json=-"]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(words, capture_output=True, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (b"\\u0939" in done.stdout) == (encoding != "utf-8" and folder != no_text)


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
from nemo_adapt.console.output import is_read, ignore_closed_pipes
ignore_closed_pipes()
found = [is_read()]
print("to nobody", flush=True)
found += [is_read(), subprocess.run([sys.executable, "-c", "print(1)"], stderr=subprocess.PIPE).returncode]
sys.exit(0 if found == [True, False, 0] else 1)
"""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(timeout=60) == 0


def test_output_goes_on_after_its_terminal_is_closed():
    text = """
import sys, time
from nemo_adapt.console.output import ignore_closed_pipes, is_read
ignore_closed_pipes()
print(sys.stdout.isatty(), flush=True)
sys.stdin.read()  # until the terminal is closed
for _ in range(2):
    print("to nobody", flush=True)
sys.exit(0 if not is_read() else 1)
"""
    own, terminal = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=terminal)
    os.close(terminal)
    assert os.read(own, 100).split() == [b"True"]
    os.close(own)
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_streams_that_are_not_pipes_are_left_unchanged(monkeypatch):
    for stream in (io.StringIO(), io.TextIOWrapper(io.BytesIO()), None):
        monkeypatch.setattr(sys, "stdout", stream)
        ignore_closed_pipes()
        assert sys.stdout is stream and is_read()


@pytest.mark.parametrize(("owner", "said"), [(io.BytesIO(), 0), (object(), 1)])
def test_unclosed_files_print_no_traceback_when_they_are_collected(monkeypatch, owner, said):
    """Python reports their errors since 3.13; that of a full disk was raised where they were written."""
    reported = []
    monkeypatch.setattr(sys, "__unraisablehook__", reported.append)
    cli._report_unless_of_file(SimpleNamespace(object=owner, exc_value=ValueError("flush of closed file")))
    assert len(reported) == said


def test_commands_leave_out_errors_of_unclosed_files():
    program = """
import sys
from nemo_adapt import cli
cli.command = lambda name, words: print(sys.unraisablehook.__name__)
sys.argv = ["nemo-adapt", "doctor"]
cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{cli._report_unless_of_file.__name__}\n", done.stderr
