"""Processes that share jobs: an error in one ends all, in one line; so does a process that is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from nemo_adapt.console.progress import Bar
from nemo_adapt.errors import UserError
from nemo_adapt.machine.workers import share, shared_counters

JOBS = 40


def do(numbers, seen, breaks=None, seconds=0.0):
    done = []
    for number in numbers:
        time.sleep(seconds)
        if breaks is not None and number >= breaks:
            raise UserError(f"job {number} cannot be done")
        seen(1.0)
        done.append(number)
    return done


def other(how, seconds):
    shared = shared_counters()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    numbers = shared.take(JOBS)
    if how.startswith("/"):
        numbers = (number for number in numbers if Path(how, str(number)).write_text("begun"))
    return do(numbers, shared.advance, 0 if how == "breaks" else None, seconds)


def run(how, mine, seconds=0.05):
    with Bar("jobs", JOBS, "jobs") as bar:
        return share(JOBS, 3, bar, mine, other, how, seconds)


def test_every_job_is_done_once():
    answers = run("works", partial(do, seconds=0.05))
    assert sorted(number for answer in answers for number in answer) == list(range(JOBS)) and len(answers) == 3


def test_an_error_in_a_worker_stops_the_main_process():
    with pytest.raises(UserError, match="cannot be done"):
        run("breaks", partial(do, seconds=0.2))


def test_an_error_in_the_main_process_stops_the_workers(tmp_path):
    """The workers write a file for each job that they begin; they stop before all are done."""
    with pytest.raises(UserError, match=r"job \d+ cannot be done"):
        run(str(tmp_path), partial(do, breaks=0), seconds=0.5)
    assert len(list(tmp_path.iterdir())) < JOBS - 1


def test_a_killed_worker_is_reported():
    with pytest.raises(UserError, match=r"a process that shared the work was killed, .*; ask for fewer processes"):
        run("killed", partial(do, seconds=0.2))


def run_until_killed(folder):
    """The main process is killed once a worker has begun a job."""

    def mine(numbers, seen):
        while not list(folder.iterdir()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    run(str(folder), mine, seconds=0.1)


def test_workers_end_with_the_main_process_even_if_that_is_killed(tmp_path):
    """The next start would make the same files at the same time."""
    process = multiprocessing.get_context("spawn").Process(target=run_until_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    time.sleep(1)  # for the workers to get the signal
    begun = len(list(tmp_path.iterdir()))
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) == begun < JOBS


def test_a_process_that_begins_after_its_parent_has_ended_ends_too(tmp_path):
    """Linux sends it nothing then: the parent was killed while the process imported."""
    late = """
import os, signal, sys, time
from pathlib import Path
from nemo_adapt.machine.workers import signal_when_parent_ends
parent = os.getpid()
if not os.fork():
    while os.getppid() == parent:
        time.sleep(0.01)
    Path("begun").touch()
    signal_when_parent_ends(signal.SIGKILL, parent)
    Path("goes on").touch()
"""
    done = subprocess.run([sys.executable, "-c", late], cwd=tmp_path, capture_output=True)  # until both have ended
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "begun").exists() and not (tmp_path / "goes on").exists()
