"""Files are written whole or not at all, and told apart by a hash."""

import pytest

from nemo_adapt import files
from nemo_adapt.files import file_hash, write_text


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


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "absent/new"):
        with pytest.raises(OSError) as error:
            write_text(path, "text")
        assert error.value.filename == str(path), "not the temporary file, which the user does not know"
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "new", "\ud800")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]
