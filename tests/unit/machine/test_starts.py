"""Two starts of one Slurm job: the later one takes over locks of the earlier one, left over on a lost node."""

import json
import os
import platform
import threading
import time
from pathlib import Path

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.machine import locks
from nemo_adapt.machine.starts import is_earlier, this_start


def as_start(monkeypatch, job, restart):
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)


def test_earlier_starts_of_the_same_job_are_recognized(monkeypatch):
    as_start(monkeypatch, "7", "2")
    assert this_start() == {"host": platform.node(), "pid": os.getpid(), "job": "7", "restart": 2}
    before = [{"job": "7", "restart": 1}, {"job": "7"}]
    others = [{"job": "7", "restart": 2}, {"job": "7", "restart": 3}, {"job": "8", "restart": 1}, {}]
    assert [is_earlier(each, this_start()) for each in [*before, *others]] == [True, True, *[False] * 4]
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert not is_earlier({"job": "", "restart": -1}, this_start()), "outside of Slurm no start replaces another"


def test_a_later_start_takes_over_a_fenced_lock(tmp_path, monkeypatch):
    as_start(monkeypatch, "7", "0")
    with locks.folder_lock(tmp_path / "train", fenced=True):
        as_start(monkeypatch, "7", "1")
        with locks.folder_lock(tmp_path / "train", fenced=True):
            for job, restart in (("7", "0"), ("7", "1"), ("8", "5")):
                as_start(monkeypatch, job, restart)
                with (
                    pytest.raises(UserError, match="is being made"),
                    locks.folder_lock(tmp_path / "train", fenced=True),
                ):
                    pass
            lock = tmp_path / ".train.lock"
            holder = {"host": platform.node(), "pid": os.getpid(), "job": "7", "restart": 1}
            assert json.loads(lock.read_text()) == holder
    assert not lock.exists()


def test_the_earlier_start_does_not_delete_the_later_one_s_lock(tmp_path, monkeypatch):
    as_start(monkeypatch, "7", "0")
    earlier = locks.folder_lock(tmp_path / "train", fenced=True)
    earlier.__enter__()
    as_start(monkeypatch, "7", "1")
    with locks.folder_lock(tmp_path / "train", fenced=True):
        earlier.__exit__(None, None, None)
        assert (tmp_path / ".train.lock").exists()


def test_a_lock_released_while_its_holder_is_read_is_acquired(tmp_path, monkeypatch):
    earlier, holder = locks.folder_lock(tmp_path / "data"), locks.holder
    earlier.__enter__()

    def holder_after_release(path):
        if path.exists():
            earlier.__exit__(None, None, None)
        return holder(path)

    monkeypatch.setattr(locks, "holder", holder_after_release)
    with locks.folder_lock(tmp_path / "data"):
        pass


def test_a_later_start_waits_for_a_lock_without_fence(tmp_path, monkeypatch):
    as_start(monkeypatch, "7", "0")
    earlier = locks.folder_lock(tmp_path / "data")
    earlier.__enter__()
    threading.Timer(0.5, lambda: earlier.__exit__(None, None, None)).start()
    as_start(monkeypatch, "7", "1")
    began = time.monotonic()
    with locks.folder_lock(tmp_path / "data"):
        assert time.monotonic() - began > 0.4


def test_a_lock_that_another_user_has_left_is_named(tmp_path, monkeypatch):
    """Not only that it may not be opened."""
    (tmp_path / ".train.lock").write_text(json.dumps({"host": "node7", "pid": 12}))
    opened = Path.open

    def refuse(path, mode="r", **options):
        if "a" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"\.train\.lock is held by another user's process 12 on node7: if that has"):
        locks.folder_lock(tmp_path / "train").__enter__()
    with pytest.raises(PermissionError):
        locks.folder_lock(tmp_path / "other").__enter__()


@pytest.mark.parametrize("out", ["", ".", "../here"])
def test_the_lock_of_the_current_folder_stands_beside_it(tmp_path, monkeypatch, out):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert locks.lock_of(Path(out)).resolve() == tmp_path / ".here.lock"
