"""Corpora are streamed as documents; what cannot be read is named by file and line."""

import gzip
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nemo_adapt.config import recipes
from nemo_adapt.corpora import lines as lines_of_files
from nemo_adapt.corpora import text, text_files
from nemo_adapt.corpora.lines import Part
from nemo_adapt.corpora.text_files import blocks, read
from nemo_adapt.errors import UserError
from nemo_adapt.run import reads
from nemo_adapt.run.run_folder import RunFolder

LINES = [f"satır {i} çok güzel{'x' * (i % 70)}" for i in range(5000)]


def write_all_kinds(folder, lines, field="text"):
    """The same documents in every kind of file."""
    plain = "".join(f"{line}\n" for line in lines).encode()
    records = "".join(json.dumps({"id": 1, field: line}) + "\n" for line in lines).encode()
    for name, content in (("a.txt", plain), ("a.jsonl", records)):
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        (folder / f"{name}.zst").write_bytes(zstandard.compress(content))
    pq.write_table(pa.table({"id": [1] * len(lines), field: lines}), folder / "a.parquet", row_group_size=700)
    return [folder / f"a{suffix}" for suffix in text.SUFFIXES]


def test_lines_jsonl_records_and_compressed_files_give_documents(tmp_path):
    (tmp_path / "a.txt").write_text("bir\n\n iki \r\nüç", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "dört"}\n\n{"text": "beş\\naltı"}\n', encoding="utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"yedi\n"))
    files = text.expand([tmp_path / "*.txt", str(tmp_path / "b*"), str(tmp_path / "c.txt.gz")], "data.target")
    assert list(text.documents(files)) == ["bir", "iki", "üç", "dört", "beş\naltı", "yedi"]


def test_the_kind_of_a_file_is_its_last_suffix_but_that_of_compression(tmp_path):
    content = '{"text": "bir"}'
    for name, document in (("a.jsonl.txt", content), ("a.txt.jsonl", "bir"), ("a.jsonl.txt.gz", content)):
        raw = f"{content}\n".encode()
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        assert list(text.documents([tmp_path / name])) == [document]
        joined = b"".join(text.part_blocks(Part(tmp_path / name)))
        assert [each.decode() for each in joined.split(text_files.END) if each] == [document]


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("bir\n")
    assert len(text.expand([str(tmp_path / "a.txt"), str(tmp_path / "*.txt")], "k")) == 1


def test_globs_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("bir\n")
    monkeypatch.chdir(tmp_path / "in")
    assert [str(path) for path in text.expand(["*.txt"], "k")] == ["a.txt"]
    assert [str(path) for path in text.expand(["../in/*.txt"], "k")] == ["../in/a.txt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "the file is empty"),
        ("a.txt", b"\n  \n", "holds no document"),
        ("a.txt", b"\xef\xbb\xbf\n", "holds no document"),
        ("a.jsonl", b'{"text": " "}\n', "holds no document"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "holds no document"),
        (
            "a.jsonl",
            b'{"text": "\\ud83d\\ude00"}\n{"text": "a \\ud800 b"}\n',
            "line 2 contains half of a surrogate pair",
        ),
        ("a.jsonl", b'{"text": "a \\uDfff"}\n', "line 1 contains half of a surrogate pair"),
        ("a.txt", b"good\nb\xff\xfed\n", "line 2 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', 'line 2 is not a JSON object with a "text" field'),
        ("a.jsonl", b"plain\n", "line 1 is not a JSON object"),
        ("a.jsonl", b'{"text": 3}\n', "line 1 is not a JSON object"),
        ("a.jsonl", b"[" * 100_000 + b"]" * 100_000, "line 1 is not a JSON object"),
        ("a.txt.gz", b"not compressed", "is not a gzip file"),
        ("a.txt", b"bir\riki\r", "line 1 is the whole file: its line ends are CR"),
        ("a.txt.gz", gzip.compress(b"bir\r\riki", mtime=0), "line 1 is the whole file"),
        ("a.txt.zst", zstandard.compress(b"bir\riki\r"), "line 1 is the whole file"),
    ],
)
def test_empty_and_malformed_files_are_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        list(text.documents([tmp_path / name]))
    assert says in str(error.value) and str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("parts", [1, 3])
def test_carriage_returns_instead_of_line_ends_are_refused_in_blocks_too(tmp_path, monkeypatch, parts):
    """The whole file would be one document. Within the lines of a file, and at its only end, they are no mistake."""
    monkeypatch.setattr(lines_of_files, "BLOCK", 1000)
    path = tmp_path / "a.txt"
    path.write_bytes(b"line\r" * 500)
    for read_part in (read, blocks):
        with pytest.raises(UserError, match=r"a\.txt: line 1 is the whole file: .*: tr '\\r' '\\n'"):
            [list(read_part(Part(path, index, parts))) for index in range(parts)]
    for content, document in ((b"a\rb\n", "a\rb"), (b"a\r", "a"), (b"\ra\r\r\n", "a")):
        path.write_bytes(content)
        assert list(read(Part(path))) == [document]
        assert len(list(blocks(Part(path)))) == 1


def test_blocks_of_long_documents_are_cut_between_two(tmp_path, monkeypatch):
    """Counting words takes much more memory than a block, and documents may be books."""
    monkeypatch.setattr(text_files, "LARGEST_BLOCK", 3000)
    for path in write_all_kinds(tmp_path, LINES[:100]):
        whole = [block for index in range(2) for block in blocks(Part(path, index, 2))]
        assert b"".join(whole) == b"".join(blocks(Part(path)))
        if path.suffix != ".txt":
            longest = max(map(len, LINES[:100])) * 4
            assert len(whole) > 1 and all(len(block) <= 3000 + longest for block in whole)
            assert all(block.endswith(text_files.END) for block in whole)


def test_a_parquet_file_without_rows_holds_no_document(tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet holds no document"):
        list(text.documents([tmp_path / "a.parquet"]))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_byte_order_mark_at_the_beginning_is_not_text(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(lines_of_files, "BLOCK", 1000)
    mark = text_files.BOM
    for path in write_all_kinds(tmp_path, LINES[:100])[:-1]:
        raw = {".gz": gzip.decompress, ".zst": zstandard.decompress}.get(path.suffix, bytes)(path.read_bytes())
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(mark + raw))
        every = [Part(path, index, parts) for index in range(parts)]
        assert [line for part in every for line in read(part)] == LINES[:100], path
        joined = b"".join(block for part in every for block in blocks(part)).split(text_files.END)
        assert [line.decode().strip() for line in joined if line.strip()] == LINES[:100], path
    (tmp_path / "b.txt").write_bytes(b"a\n" + mark + b"b\n")
    assert list(read(Part(tmp_path / "b.txt"))) == ["a", "\ufeffb"]  # elsewhere it is a character


def test_folders_broken_links_and_pipes_are_reported_as_such(tmp_path):
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "gone.txt")
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device.txt").symlink_to("/dev/null")
    for name, says in {
        "folder": r"is a folder; give files or a glob, as .*/folder/\*\.txt",
        "linked": "is a folder",
        "dangling.txt": "is a broken link",
        "loop.txt": "is a broken link",
        "pipe": "is no regular file",
        "device.txt": "is no regular file",
    }.items():
        with pytest.raises(UserError, match=rf"data\.target: .*{name} {says}"):
            text.expand([str(tmp_path / name)], "data.target")


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (".", r"\. is a folder; give files or a glob, as \*\.txt"),
        ("/", r"/ is a folder; give files or a glob, as /\*\.txt"),
        ("..", r"\.\. is a folder"),
        ("", "the name of a file is empty"),
        ("~/a.txt", r"no file matches '~/a\.txt': nothing is expanded here but \$\{oc\.env:HOME\}"),
        ("$HOME/a.txt", r"no file matches '\$HOME/a\.txt': nothing is expanded here but"),
        ("t/**.txt", r"t/\*\*\.txt: \*\* stands for folders, between slashes, as in \*\*/\*\.txt"),
    ],
)
def test_patterns_that_no_glob_accepts_are_explained(pattern, says):
    with pytest.raises(UserError, match=rf"tokenizer\.text: {says}"):
        text.expand([pattern], "tokenizer.text")


@pytest.mark.parametrize("key", ["tokenizer.parallel.tr", "evaluate.texts.tr"])
def test_a_glob_for_one_language_names_one_file(tmp_path, key):
    """Of several, all but the first would be left out silently."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x\n")
    several = f"{key}={tmp_path}/*.txt"
    words = ["recipe=blank", "run.name=x", f"model.path={tmp_path}", f"tokenizer.base={tmp_path}"]
    settings = [f"tokenizer.text=[{tmp_path}/a.txt]", "train.score_every=1", "evaluate.target=tr"]
    config = recipes.of_words([*words, *settings, several])
    run = RunFolder.of(config)
    readers = {"tokenizer": [reads.tokenizer], "evaluate": [reads.evaluate, reads.train, reads.probe]}
    for reader in readers[key.partition(".")[0]]:
        with pytest.raises(UserError, match=rf"{key}: .*/\*\.txt names 2 files; give one"):
            reader(config, run)


def test_a_file_that_is_named_in_several_ways_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("x\n")
    (tmp_path / "in/linked.txt").symlink_to(tmp_path / "in/a.txt")
    monkeypatch.chdir(tmp_path / "in")
    names = ["a.txt", "./a.txt", "../in/a.txt", str(tmp_path / "in/a.txt"), "linked.txt", "*.txt"]
    assert text.expand(names, "k") == [Path("a.txt")]


def test_unmatched_globs_and_unknown_suffixes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.target: no file matches"):
        text.expand([str(tmp_path / "*.txt")], "data.target")
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=r"a\.pdf is not one of \.txt"):
        text.expand([str(tmp_path / "a.pdf")], "data.target")


@pytest.mark.parametrize("parts", [1, 3])
def test_every_format_gives_the_same_documents_in_any_number_of_parts(tmp_path, parts):
    for path in write_all_kinds(tmp_path, LINES):
        seen = []
        found = [list(read(Part(path, index, parts), on_progress=seen.append)) for index in range(parts)]
        assert [line for part in found for line in part] == LINES, path
        whole = parts == 1 or path.suffix in (".gz", ".zst")  # so small that one part has all of it
        assert whole or all(len(part) > 500 for part in found), path
        assert sum(seen) == pytest.approx(path.stat().st_size, rel=0.02), path


@pytest.mark.parametrize("block", [1, 64, 1000, lines_of_files.BLOCK])
def test_a_file_has_the_same_blocks_in_any_number_of_parts(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines_of_files, "BLOCK", block)
    for path in write_all_kinds(tmp_path, LINES):
        alone = list(blocks(Part(path)))
        documents = b"".join(alone).split(text_files.END)
        assert [document.decode().strip() for document in documents if document.strip()] == LINES, path
        for parts in (2, 3, 7):
            assert [one for index in range(parts) for one in blocks(Part(path, index, parts))] == alone, (path, parts)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_large_compressed_files_are_split_into_similar_parts(tmp_path, name):
    draw = random.Random(0)
    lines = [str(draw.getrandbits(400)) for _ in range(20_000)]  # they compress badly
    raw = "\n".join(lines).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else zstandard.compress(raw))
    seen = []
    found = [list(read(Part(tmp_path / name, index, 3), on_progress=seen.append)) for index in range(3)]
    assert [line for part in found for line in part] == lines
    assert all(len(part) > 5000 for part in found)
    assert sum(seen) == pytest.approx((tmp_path / name).stat().st_size)


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst"])
def test_a_compressed_file_of_fewer_bytes_than_parts_is_read_once(tmp_path, name):
    compress = gzip.compress if name.endswith("gz") else zstandard.ZstdCompressor().compress
    (tmp_path / name).write_bytes(compress(b"one\ntwo\n"))
    documents = [document for part in range(64) for document in read(Part(tmp_path / name, part, 64))]
    assert documents == ["one", "two"]


@pytest.mark.parametrize("size", range(1, 12))
def test_plain_files_are_split_between_lines_at_any_size(tmp_path, size, monkeypatch):
    monkeypatch.setattr(lines_of_files, "BLOCK", 1)
    (tmp_path / "a.txt").write_bytes(b"a\nbb\n\nccc\nd")
    found = [line for index in range(size) for line in read(Part(tmp_path / "a.txt", index, size))]
    assert found == ["a", "bb", "ccc", "d"]


def test_the_text_field_can_be_chosen(tmp_path):
    for path in write_all_kinds(tmp_path, LINES[:5], field="content"):
        assert list(text.documents([path], "content")) == LINES[:5]


def test_files_may_have_text_in_different_fields(tmp_path):
    """The first that a line or file has is read; all that were named are in the error."""
    (tmp_path / "a.jsonl").write_text('{"content": "c", "text": "a"}\n{"content": "b"}\n{"id": "text"}\n"text"\n')
    lines = text.documents([tmp_path / "a.jsonl"], "text/content")
    assert [next(lines), next(lines)] == ["a", "b"]
    with pytest.raises(UserError, match=r"line 3 is not a JSON object with a \"text\" or \"content\" field"):
        next(lines)
    for columns, expected in (("content", ["b"]), ("content text", ["a"]), ("n", None)):
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({name: ["a" if name == "text" else "b"] for name in columns.split()}), path)
        if expected:
            assert list(text.documents([path], "text/content")) == expected
            continue
        with pytest.raises(UserError, match="has no column 'text' or 'content', only n: name the one"):
            list(text.documents([path], "text/content"))


def test_null_and_blank_values_of_a_column_are_skipped(tmp_path):
    pq.write_table(pa.table({"text": ["bir", None, " ", "iki"]}), tmp_path / "a.parquet")
    assert list(text.documents([tmp_path / "a.parquet"])) == ["bir", "iki"]


def test_null_in_json_lines_is_skipped_too(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "a"}\n')
    assert list(text.documents([tmp_path / "a.jsonl"])) == ["a"]


def test_a_column_of_string_views_is_text(tmp_path):
    pq.write_table(pa.table({"text": pa.array(["a", None, "b"], pa.string_view())}), tmp_path / "a.parquet")
    assert list(text.documents([tmp_path / "a.parquet"])) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst", "a.jsonl.zst"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name}: the file is empty"):
        list(text.documents([tmp_path / name]))


def test_a_document_may_span_two_zstd_frames(tmp_path):
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(b"bir\ni") + zstandard.compress(b"ki\n"))
    assert list(text.documents([tmp_path / "a.txt.zst"])) == ["bir", "iki"]


def damaged(tmp_path, name, change):
    write_all_kinds(tmp_path, LINES)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("a.txt.zst", lambda raw: b"plain text\n", "is not a zstd file, or is damaged (after line 0)"),
        ("a.txt.zst", lambda raw: raw[:-20], "is not a zstd file, or is damaged"),
        ("a.jsonl.gz", lambda raw: raw[:-200], "is not a gzip file, or is damaged"),
        ("a.parquet", lambda raw: raw[:-20], "is not a Parquet file, or is damaged"),
        ("a.parquet", lambda raw: raw[:50] + bytes(400) + raw[450:], "is not a Parquet file, or is damaged"),
        ("a.parquet", lambda raw: b"", "is not a Parquet file, or is damaged"),
    ],
)
def test_damaged_compressed_and_parquet_files_are_named(tmp_path, name, change, says):
    path = damaged(tmp_path, name, change)
    with pytest.raises(UserError) as error:
        list(text.documents([path]))
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_non_text_columns_are_named(tmp_path):
    pq.write_table(pa.table({"content": ["bir"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has no column 'text', only content, n: .*data\.text_field"):
        list(text.documents([tmp_path / "a.parquet"]))
    with pytest.raises(UserError, match="column 'n' holds int64, not strings"):
        list(text.documents([tmp_path / "a.parquet"], "n"))


def test_an_error_in_a_part_gives_the_line_number_in_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(lines_of_files, "BLOCK", 16)
    (tmp_path / "a.txt").write_bytes(b"good\n" * 900 + b"b\xffd\n" + b"good\n" * 99)
    with pytest.raises(UserError, match="line 901 is not UTF-8"):
        list(read(Part(tmp_path / "a.txt", 2, 3)))


def test_only_large_files_are_split_and_the_largest_parts_come_first(tmp_path):
    sizes = [100_000, *[2_000] * 30, 1]
    paths = [tmp_path / f"{i}.txt" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(b"x" * size)
    parts = text.parts(paths, 4)
    of_large = [Part(paths[0], index, 80) for index in range(80)]  # 1,250 bytes each: a 32nd of a process's 40,000
    assert parts == [*map(Part, paths[1:-1]), *of_large, Part(paths[-1])]
    assert text.parts(paths, 1) == [Part(path) for path in paths]
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(b"x" * 200_000)
    assert text.parts([packed], 4) == [Part(packed, index, 4) for index in range(4)]


def test_a_parquet_file_with_the_column_twice_is_refused(tmp_path):
    """Of columns that are not read, names may repeat."""
    path, columns = tmp_path / "a.parquet", [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "x"]), path)
    with pytest.raises(UserError, match=r"a\.parquet has several columns 'text'"):
        list(text.documents([path]))
    pq.write_table(pa.Table.from_arrays(columns, names=["x", "x", "text"]), path)
    assert list(text.documents([path])) == ["c"]
