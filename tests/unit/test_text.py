"""Corpora are streamed as documents; what cannot be read is named by file and line."""

import gzip

import pytest

from nemo_adapt import text
from nemo_adapt.errors import UserError


def test_lines_records_and_compressed_files(tmp_path):
    (tmp_path / "a.txt").write_text("bir\n\n iki \r\nüç", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "dört"}\n\n{"text": "beş\\naltı"}\n', encoding="utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"yedi\n"))
    files = text.expand([tmp_path / "*.txt", str(tmp_path / "b*"), str(tmp_path / "c.txt.gz")], "data.target")
    assert list(text.documents(files)) == ["bir", "iki", "üç", "dört", "beş\naltı", "yedi"]


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("bir\n")
    assert len(text.expand([str(tmp_path / "a.txt"), str(tmp_path / "*.txt")], "k")) == 1


def test_globs_are_relative_to_here(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("bir\n")
    monkeypatch.chdir(tmp_path / "in")
    assert [str(path) for path in text.expand(["*.txt"], "k")] == ["a.txt"]
    assert [str(path) for path in text.expand(["../in/*.txt"], "k")] == ["../in/a.txt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b"\n  \n", "the file is empty"),
        ("a.txt", b"good\nb\xff\xfed\n", "line 2 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', 'line 2 is not a JSON object with a "text" field'),
        ("a.jsonl", b"plain\n", "line 1 is not a JSON object"),
        ("a.jsonl", b'{"text": 3}\n', "line 1 is not a JSON object"),
        ("a.txt.gz", b"not compressed", "is not a gzip file"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(text.documents([tmp_path / name]))
    assert says in str(error.value) and str(tmp_path / name) in str(error.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"data\.target: no file matches"):
        text.expand([str(tmp_path / "*.txt")], "data.target")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"a\.pdf is not one of \.txt"):
        text.expand([str(tmp_path / "a.pdf")], "data.target")
