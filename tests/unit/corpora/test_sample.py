"""Samples of documents, drawn by one process or several."""

import itertools
import random

import pytest

from nemo_adapt.corpora import sample as module
from nemo_adapt.corpora import text
from nemo_adapt.corpora.sample import drawn, sample
from nemo_adapt.errors import UserError

LINES = [f"satır {number} {'x' * (1 + number % 7)}" for number in range(5000)]


def sampled(paths, tmp_path, count, seed, processes=0):
    total = sample("test", paths, "text", count, seed, tmp_path / "out.jsonl.zst", processes)
    return total, list(text.documents([tmp_path / "out.jsonl.zst"]))


def two_files(tmp_path):
    paths = [tmp_path / "b.txt", tmp_path / "a.txt"]
    paths[0].write_text("\n".join(LINES[:2000]))
    paths[1].write_text("\n".join(LINES[2000:]))
    return paths


def test_a_sample_depends_only_on_the_documents_and_the_seed(tmp_path):
    paths = two_files(tmp_path)
    total, first = sampled(paths, tmp_path, 300, 1)
    assert total == 5000 and len(first) == 300 and set(first) < set(LINES)
    assert sorted(sampled(paths[::-1], tmp_path, 300, 1)[1]) == sorted(first)
    assert len(set(sampled(paths, tmp_path, 300, 2)[1]) & set(first)) < 60
    assert set(sampled(paths, tmp_path, 100, 1)[1]) < set(first)
    assert 80 < sum(int(line.split()[1]) < 2000 for line in first) < 160
    assert [int(line.split()[1]) for line in first] == sorted(int(line.split()[1]) for line in first), "reading order"


def copies(tmp_path):
    """Two files in which 40 lines come often, among others that come once."""
    lines = [random.Random(seed).choice(LINES[:40]) for seed in range(9000)]
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    paths[0].write_text("\n".join([*lines, *LINES]))
    paths[1].write_text("\n".join(lines[::-1]))
    return paths


def test_several_processes_draw_the_same_sample_as_one(tmp_path):
    paths = copies(tmp_path)
    for count in (40, 777, 30_000):
        found = [sampled(paths, tmp_path, count, 3, processes) for processes in (1, 3)]
        assert found[0] == found[1] and found[0][0] == 23_000 and len(found[0][1]) == min(count, 23_000)


@pytest.mark.parametrize("count", [40, 333, 777, 1500, 4000])
def test_whichever_process_reads_a_part_the_sample_and_its_order_are_the_same(tmp_path, monkeypatch, count):
    """Of copies that exceed the sample the first ones in reading order are taken."""

    def take_turns(jobs, processes, bar, mine, other, *given):
        monkeypatch.setattr(module.os, "getpid", itertools.count().__next__)
        return [mine(range(jobs - 1 - turn, -1, -processes), bar.advance) for turn in range(processes)]

    paths = copies(tmp_path)
    alone = sampled(paths, tmp_path, count, 3, 1)
    monkeypatch.setattr(module, "share", take_turns)
    assert sampled(paths, tmp_path, count, 3, 3) == alone


def test_a_sample_larger_than_the_text_is_the_whole_text(tmp_path):
    (tmp_path / "a.txt").write_text("bir\niki\nbir\n")
    assert sampled([tmp_path / "a.txt"], tmp_path, 10, 1) == (3, ["bir", "iki", "bir"])


def test_a_sample_of_files_with_several_fields_can_be_read(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    paths[0].write_text('{"text": "bir"}\n')
    paths[1].write_text('{"content": "iki"}\n')
    out, field = tmp_path / "out.jsonl.zst", "text/content"
    assert sample("test", paths, field, 10, 1, out) == 2
    assert list(text.documents([out], field)) == ["bir", "iki"]


@pytest.mark.parametrize("processes", [1, 2])
def test_text_that_cannot_be_read_is_a_user_error_and_leaves_nothing(tmp_path, processes):
    paths = two_files(tmp_path)
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n" * 50_000)  # split among processes
    for bad, said in ((blank, "blank.txt holds no document"), (tmp_path / "c.txt", "line 2 is not UTF-8")):
        (tmp_path / "c.txt").write_bytes(b"good\n\xff\n")
        with pytest.raises(UserError, match=said):
            sampled([*paths, bad], tmp_path, 10, 1, processes)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "blank.txt", "c.txt"]


def test_nothing_is_drawn_unless_asked_for(tmp_path, capsys):
    paths = two_files(tmp_path)
    assert drawn("tokenizer", paths, "text", 0, 1, tmp_path / "out.jsonl.zst") == paths
    assert drawn("tokenizer", paths, "text", 7, 1, tmp_path / "out.jsonl.zst") == [tmp_path / "out.jsonl.zst"]
    assert "tokenizer: learning from 7 of 5,000 documents" in capsys.readouterr().out
