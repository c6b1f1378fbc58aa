"""Files are written whole or not at all, and told apart by a hash."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from nemo_adapt import files
from nemo_adapt.files import file_hash, write_text

STATE = ("st_dev", "st_ino", "st_size")


def test_large_files_are_hashed_by_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WHOLE_FILE_BYTES", 1000)
    monkeypatch.setattr(files, "SAMPLE_BYTES", 10)
    file = tmp_path / "big"
    file.write_bytes(bytes(5000))
    before = file_hash(file)
    file.write_bytes(bytes(4999) + b"x")
    assert file_hash(file) != before
    file.write_bytes(bytes(5001))
    assert file_hash(file) != before


def written(path, content, age_s):
    """Write a file whose times say that this was some seconds ago."""
    path.write_text(content)
    moment = time.time_ns() - age_s * 1_000_000_000
    os.utime(path, ns=(moment, moment))
    return moment


def test_a_file_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_hash", mock.Mock(wraps=files._hash))
    monkeypatch.setattr(files, "SETTLED_NS", 0)
    file = tmp_path / "text"
    written(file, "one", 60)
    before = file_hash(file)
    assert [file_hash(file), file_hash(file)] == [before, before] and files._hash.call_count == 1
    written(file, "two", 60)
    assert file_hash(file) != before and files._hash.call_count == 2
    other = tmp_path / "other"
    written(other, "one", 60)
    other.replace(file)  # another file of the same name, size and age
    assert file_hash(file) == before and files._hash.call_count == 3


def test_a_file_that_was_written_just_now_is_read_again(tmp_path, monkeypatch):
    """Its times may be the same after another write: they are as coarse as a tick."""
    file = tmp_path / "text"
    state = written(file, "one", 0)
    before = file_hash(file)
    monkeypatch.setattr(files, "_state", lambda path: (1, 1, 3, state, state))
    assert file_hash(file) == before
    file.write_text("two")
    assert file_hash(file) != before


def test_files_written_in_the_same_tick_are_told_apart(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    times = {"st_mtime_ns": 5, "st_ctime_ns": 5}
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path: SimpleNamespace(**{key: getattr(stat(path), key) for key in STATE} | times)
    )
    assert file_hash(tmp_path / "one") != file_hash(tmp_path / "two")


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "absent/new"):
        with pytest.raises(OSError) as error:
            write_text(path, "text")
        assert error.value.filename == str(path), "not the temporary file, which the user does not know"
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "new", "\ud800")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
