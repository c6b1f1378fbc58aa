"""Text of any format becomes the dataset that Megatron's own builder would write, with any number of processes."""

import gzip
import json
import os
import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from helpers import forks
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
from unit.tokenizer.tokenizer_samples import byte_level_base, english, sentencepiece_base, target

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.corpora import mixture
from nemo_adapt.data import stage, store
from nemo_adapt.errors import UserError
from nemo_adapt.tokens import documents

LINES = [f"{number} {line}" for number, line in enumerate(english(1500) + target(1500))]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return sentencepiece_base(tmp_path_factory.mktemp("base"))


def build(out, tokenizer, files, processes=1):
    config = Config()
    config.data.processes = processes
    out.mkdir(parents=True, exist_ok=True)
    stage.build(config, {"tokenizer": [tokenizer], "text": files}, out)
    return out


def contents(folder):
    return {path.name.split(".", 1)[-1]: path.read_bytes() for path in folder.iterdir()}


def write_kinds(folder):
    """Write the lines to files of every format, most of them large enough to be split; return files and all lines."""
    raw = "\n".join(LINES).encode() + b"\n"
    records = b"".join(json.dumps({"text": line}).encode() + b"\n" for line in LINES)
    written = {
        "a.txt": raw,
        "b.txt.gz": gzip.compress(raw),
        "c.txt.zst": zstandard.compress(raw),
        "d.jsonl": records,
        "e.jsonl.gz": gzip.compress(records),
        "f.jsonl.zst": zstandard.compress(records),
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.table({"text": LINES}), folder / "g.parquet", row_group_size=300)
    (folder / "h.txt").write_text("one\n\n  \ntwo without an end", encoding="utf-8")
    return sorted(folder.iterdir()), LINES * 7 + ["one", "two without an end"]


@pytest.mark.parametrize("processes", [1, 3])
def test_the_dataset_equals_that_of_megatron_s_builder(base, tmp_path, processes):
    (tmp_path / "text").mkdir()
    files, lines = write_kinds(tmp_path / "text")
    out = build(tmp_path / "out" / "set", base, files, processes)
    tokenizer = hf_tokenizer.load(base)
    builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=np.uint16)
    for ids in documents.encode(tokenizer, lines):
        sequence = np.array([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id], np.uint16)
        builder.add_document(sequence, [len(sequence)])
    builder.finalize(str(tmp_path / "theirs.idx"))
    found = contents(out)
    assert set(found) == {"bin", "idx", "json"}
    for kind in ("bin", "idx"):
        assert found[kind] == (tmp_path / f"theirs.{kind}").read_bytes(), kind
    size = sum(len(line.encode()) for line in lines)
    tokens = len(found["bin"]) // 2
    assert json.loads(found["json"]) == {"documents": len(lines), "tokens": tokens, "bytes": size}


def test_the_number_of_processes_is_returned_for_the_manifest(base, tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "set").mkdir()
    config = Config()
    config.data.processes = 3
    assert stage.build(config, {"tokenizer": [base], "text": files}, tmp_path / "set") == {"processes": 3}


@pytest.mark.parametrize("suffix", ["txt.gz", "txt.zst"])
def test_large_compressed_files_are_split_among_processes_in_order(base, tmp_path, suffix):
    """Lines that compress badly, so that several reads are needed and each part has some."""
    draw = np.random.default_rng(0)
    lines = [" ".join(map(str, draw.integers(0, 10**9, 20))) for _ in range(8000)]
    raw = ("\n".join(lines) + "\n").encode()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix.endswith("gz") else zstandard.compress(raw))
    results = [build(tmp_path / f"{processes}" / "set", base, [path], processes) for processes in (1, 2, 5)]
    assert contents(results[0]) == contents(results[1]) == contents(results[2])
    assert json.loads((results[0] / "counts.json").read_text())["documents"] == len(lines)


def test_a_vocabulary_of_65536_ids_takes_32_bits(tmp_path):
    """Up to the last id, 65,535."""
    folder = byte_level_base(tmp_path / "base")
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {added["content"]: added["id"] for added in content["added_tokens"]}
    vocabulary |= {f"unused{number}": number for number in range(len(vocabulary), 65_536)}
    vocabulary["Ġriver"], vocabulary["unused65535"] = 65_535, vocabulary["Ġriver"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "a.txt").write_text("the river was sold\nthe old river\n")
    out = build(tmp_path / "set", folder, [tmp_path / "a.txt"])
    data = IndexedDataset(str(out / "set"))
    tokenizer = hf_tokenizer.load(folder)
    wanted = [
        [*ids, tokenizer.eos_token_id] for ids in documents.encode(tokenizer, ["the river was sold", "the old river"])
    ]
    assert data[0].dtype == np.int32 and [data[i].tolist() for i in range(2)] == wanted
    assert any(65_535 in ids for ids in wanted)


def test_a_document_longer_than_a_batch_is_not_split(base, tmp_path):
    """Longer than two batches, between short documents."""
    long = " ".join(english(1) * 50_000)
    assert len(long) > 2 * stage.BATCH_CHARACTERS
    (tmp_path / "a.txt").write_text(f"short\n{long}\nshort\n")
    data = IndexedDataset(str(build(tmp_path / "set", base, [tmp_path / "a.txt"]) / "set"))
    tokenizer = hf_tokenizer.load(base)
    assert data[1].tolist()[1:-1] == documents.encode(tokenizer, [long])[0] and len(data) == 3
    assert data[0].tolist() == data[2].tolist()


def half_appended(piece, whole, *rest):
    whole.write(piece.read(1000))
    whole.flush()


def half_deleted(paths, whole):
    whole.flush()
    paths[0].unlink()


def one_file_deleted(pieces, **options):
    (pieces / store.NOTE.format(0)).unlink()


KILLS = {
    "while a piece is encoded": (stage.Encoder, "encode", 2, None),
    "before a piece is noted": (store, "write_note", 7, None),
    "while a piece is joined": (store.shutil, "copyfileobj", 4, half_appended),
    "while joined pieces are deleted": (store, "_delete", 2, half_deleted),
    "before the index is written": (store, "write_index", 1, None),
    "before the counts are written": (stage, "write_json", 2, None),
    "while the pieces are deleted": (stage.shutil, "rmtree", 1, one_file_deleted),
}
"""When a process is killed: in which call of which function, and what that has done by then."""


def build_until_killed(when, *given):
    """Build in a process of one's own, which kills itself."""
    place, name, number, then = KILLS[when]
    original, calls = getattr(place, name), []

    def dies(*arguments, **named):
        calls.append(name)
        if len(calls) < number:
            return original(*arguments, **named)
        if then:
            then(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(place, name, dies)
    store.SYNC_BYTES = SMALL
    build(*given)


SMALL = 40_000
"""Bytes of one or two pieces here."""


@pytest.mark.parametrize(("when", "processes"), [*((when, 1) for when in KILLS), ("before a piece is noted", 3)])
def test_a_killed_stage_keeps_its_pieces_and_gives_the_same_dataset(base, tmp_path, monkeypatch, when, processes):
    """Also if it goes on with more processes, which would have split the files otherwise."""
    (tmp_path / "text").mkdir()
    files, _ = write_kinds(tmp_path / "text")
    whole, out = build(tmp_path / "whole" / "set", base, files), tmp_path / "out" / "set"
    process = forks.context().Process(target=build_until_killed, args=(when, out, base, files))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = {int(note.stem) for note in out.glob("pieces/*.npz")}
    assert kept or when == "while the pieces are deleted"
    if processes == 1:
        write, written = store.write_note, set()
        monkeypatch.setattr(store, "write_note", lambda *given: written.add(given[1]) or write(*given))
    build(out, base, files, processes)
    assert contents(out) == contents(whole)
    assert processes > 1 or not kept & written


def test_pieces_that_do_not_add_up_are_refused(base, tmp_path):
    """A joined piece is gone, and so is what it was joined into."""
    (tmp_path / "text").mkdir()
    files, _ = write_kinds(tmp_path / "text")
    out = tmp_path / "set"
    process = forks.context().Process(target=build_until_killed, args=("while a piece is joined", out, base, files))
    process.start()
    process.join()
    os.truncate(out / "set.bin", 100)
    with pytest.raises(UserError, match="set is damaged: delete it"):
        build(out, base, files)


def test_more_documents_than_megatron_can_number_are_not_joined(base, tmp_path, monkeypatch):
    """Its numbers would wrap, and its samples be those of other memory."""
    monkeypatch.setattr(mixture, "MOST_DOCUMENTS", len(LINES) - 1)
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    with pytest.raises(UserError, match="text set set: 3,000 documents are more than the 2,999 "):
        build(tmp_path / "set", base, [tmp_path / "a.txt"])
    assert not (tmp_path / "set" / "set.bin").exists()
    monkeypatch.setattr(mixture, "MOST_DOCUMENTS", len(LINES))
    build(tmp_path / "set", base, [tmp_path / "a.txt"])


def test_files_are_looked_into_before_any_is_tokenized(base, tmp_path, monkeypatch):
    """The largest files come first in the work."""
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    monkeypatch.setattr(stage, "share", lambda *given: pytest.fail("has begun"))
    for name, content, says in (
        ("b.txt", b"", "b.txt: the file is empty"),
        ("c.txt.gz", gzip.compress(b" \n" * 9), "c.txt.gz holds no document"),
        ("d.jsonl", b'{"content": "x"}\n', 'd.jsonl: line 1 is not a JSON object with a "text" field'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=says):
            build(tmp_path / f"out {name}", base, [tmp_path / "a.txt", tmp_path / name])


BROKEN = {
    "damaged": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is not a gzip file, or is damaged"),
    "not UTF-8": (lambda path: path.write_bytes(gzip.compress(b"good\n" * 50 + b"\xff\n")), "line 51 is not UTF-8"),
    "deleted": (lambda path: path.unlink(), "cannot be read: No such file or directory"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_is_damaged_during_the_work_is_a_user_error(base, tmp_path, monkeypatch, kind, processes):
    """Every file but the first is damaged after the work was divided, so that some process reads one."""
    change, says = BROKEN[kind]
    files = [tmp_path / f"{number}.txt.gz" for number in range(8)]
    for path in files:
        path.write_bytes(gzip.compress("\n".join(LINES).encode()))
    plan = stage.text.parts

    def parts(paths, processes):
        found = plan(paths, processes)
        for path in files[1:]:
            change(path)
        return found

    monkeypatch.setattr(stage.text, "parts", parts)
    with pytest.raises(UserError, match=says) as error:
        build(tmp_path / "set", base, files, processes)
    assert ".txt.gz" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "set" / "counts.json").exists() and not (tmp_path / "set" / "set.idx").exists()
    assert stage.RUST_THREADS not in os.environ


def test_a_large_blank_file_that_is_split_counts_as_empty(base, tmp_path):
    (tmp_path / "a.txt").write_text(" \n" * 5000)
    with pytest.raises(UserError, match=r"a\.txt holds no document"):
        build(tmp_path / "set", base, [tmp_path / "a.txt"], 2)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_raises_oserror_and_leaves_no_dataset(base, tmp_path, monkeypatch, processes):
    """The command line reports it in one line. Where other processes write, the first error ends all."""
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    out = tmp_path / "set"
    monkeypatch.setattr(store, "TOKENS", "../../full{:06}")
    for number in range(100):
        (tmp_path / f"full{number:06}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        build(out, base, [tmp_path / "a.txt"], processes)
    assert not (out / "set.idx").exists()
