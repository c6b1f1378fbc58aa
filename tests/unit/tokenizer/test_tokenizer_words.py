"""Words are counted in pieces and by several processes, with the same result as line by line."""

import json
import random

import pytest
import tokenizer_samples as samples
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_samples import DATA, needs_data

from nemo_adapt.config import Config
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.tokenizer import script
from nemo_adapt.tokenizer.base import read
from nemo_adapt.tokenizer.count_pieces import PieceCounts, Tallies
from nemo_adapt.tokenizer.count_words import (
    LONGEST,
    count_lines,
    count_words,
    in_parts,
    spell_pieces,
    spells_independently,
)
from nemo_adapt.tokenizer.methods import METHODS, Request
from nemo_adapt.tokenizer.stage import build
from nemo_adapt.tokenizer.tally import ONCE, Tally

ODD = [
    "a  b",
    " c",
    "tab\there",
    "no\u00a0break",
    "x <s> y<s>z",
    "12 345 '67",
    "it 's  ",
    "\u0301 a",
    "one\n two",
    "▁ ▁▁x",
]


@pytest.fixture(scope="module", params=["sentencepiece", "byte-level"])
def base(request, tmp_path_factory):
    make = {"sentencepiece": samples.sentencepiece_base, "byte-level": samples.byte_level_base}[request.param]
    return read(make(tmp_path_factory.mktemp("base")))


def odd_lines(count):
    draw = random.Random(3)
    return [" ".join(draw.choices([*ODD, *samples.ENGLISH, *samples.STEMS], k=6)) for _ in range(count)]


def test_counts_of_pieces_in_processes_equal_those_of_lines(base, tmp_path):
    path = samples.write(tmp_path / "a.txt", odd_lines(3000))
    lines = count_lines(base, text.documents([path]))
    alone, pieces = count_words(base, [path], "text", "counting", processes=1)
    together, _ = count_words(base, [path], "text", "counting", processes=2)
    assert alone.counts == lines.counts and together == alone
    assert list(alone.counts) == list(together.counts)
    assert pieces["house"] > 0


def test_only_the_most_frequent_words_are_kept(base, tmp_path, capsys):
    path = samples.write(tmp_path / "a.txt", ["ev ev ev kış kış çiçek", "ev kış"] * 20)
    words, pieces = count_words(base, [path], "text", "counting", most=3)
    assert pieces == {"ev": 80, "kış": 60} and words.counts.total() == 140
    assert words.counts == count_lines(base, ["ev ev ev kış kış"] * 20 + ["ev kış"] * 20).counts
    assert "the 3 most frequent of 4 distinct words, 87.5% of the text" in capsys.readouterr().out


def test_words_weigh_the_square_root_of_repeats_in_a_stretch(base, tmp_path):
    lines = ["a the house the house the", "a the old house"]
    path = samples.write(tmp_path / "a.txt", lines)
    for words in (count_words(base, [path], "text", "counting")[0], count_lines(base, lines)):
        weights = {word.lstrip("▁Ġ"): words.weights[word] for word in words.counts}
        assert [weights[word] for word in ("the", "house", "old")] == [2 * ONCE, round(3**0.5 * ONCE), ONCE]


def test_tokens_are_learned_by_weights_and_not_by_counts(base):
    words, mark = Tally(), "Ġ" if base.byte_level else "▁"
    words.add(f"{mark}vgv", 100, 10 * ONCE)
    words.add(f"{mark}kyk", 50, 50 * ONCE)
    request = Request(base, [], words, lambda token: token not in base.vocab, 1)
    (chosen,) = METHODS.get("continue")(request, 1)
    assert set(chosen) <= set(f"{mark}ky"), chosen


def of_words(*counted):
    words = Tally()
    for word, count in counted:
        words.add(word, count, count * ONCE)
    return words


@given(st.text("กข\u0e31\u0e48。，a▁", min_size=1, max_size=300))
def test_long_words_are_cut_into_parts_and_others_are_not(word):
    parts = list(in_parts(of_words((word, 1)), 1000).counts.elements())
    assert sorted("".join(parts)) == sorted(word) and all(len(part) <= LONGEST for part in parts)
    assert len(word) > LONGEST or parts == [word]


def test_parts_end_after_punctuation_and_not_before_a_mark():
    clauses = ["▁" + "我" * 30 + "。", "你" * 20 + "，”", "他" * 60]
    assert list(in_parts(of_words(("".join(clauses), 1)), 10).counts) == clauses
    thai = "ก\u0e31" * 32 + "ข"
    assert list(in_parts(of_words((f"a{thai}", 1)), 10).counts) == ["a" + "ก\u0e31" * 31, "ก\u0e31ข"]
    marks = "\u0e31" * 70
    assert in_parts(of_words((marks, 1)), 10).counts == {marks[:64]: 1, marks[64:]: 1}


def test_parts_that_repeat_are_counted_together_and_only_the_most_frequent_are_kept():
    words = of_words(("我" * 64 + "你" * 20, 2), ("我" * 64 + "他" * 20, 1), ("▁ev", 4))
    found = in_parts(words, 2)
    assert found.counts == {"▁ev": 4, "我" * 64: 3} and found.weights == {"▁ev": 4 * ONCE, "我" * 64: 3 * ONCE}


def test_text_without_spaces_is_learned_from_in_max_words_parts(tmp_path, monkeypatch):
    draw, seen = random.Random(4), []
    lines = ["".join(draw.choices(samples.STEMS, k=60)) for _ in range(100)]

    learn = METHODS.get("continue")

    def method(request, wanted):
        seen.extend(request.words.counts)
        return learn(request, wanted)

    monkeypatch.setitem(METHODS._things, "continue", method)
    base, corpus = samples.sentencepiece_base(tmp_path / "base"), samples.write(tmp_path / "a.txt", lines)
    out = samples.extend(base, tmp_path / "out", [corpus], 20, max_words=150)
    assert len(seen) == 150 and max(map(len, seen)) <= LONGEST
    assert json.loads((out / "learn.json").read_text())["added"] == 20


def test_words_with_noncharacters_are_left_out(tmp_path):
    lines = [*samples.target(), "ev\uffffler \uffff kış"]
    path = samples.write(tmp_path / "a.txt", lines)
    for make in (samples.sentencepiece_base, samples.byte_level_base):
        out = samples.extend(make(tmp_path / make.__name__), tmp_path / f"{make.__name__}_out", [path], 20)
        assert json.loads((out / "learn.json").read_text())["added"] == 20


def test_pieces_of_odd_lines_are_spelled_independently(base):
    for line in odd_lines(300):
        assert spells_independently(base, [line]), line


def test_base_that_merges_across_pieces_is_detected(base, monkeypatch):
    joined = Tallies(Tally(), Tally())
    joined.later.add_stretch({"the": 1, "old": 1, "house": 1})
    assert spell_pieces(base, joined).counts.total() >= 3
    monkeypatch.setattr(PieceCounts, "take", lambda self, line: self.first.update([line[:-1]]))
    assert not spells_independently(base, ["the old house"])


def test_user_error_of_a_counting_process_is_raised(base, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\n" * 1000 + b"b\xffd\n")
    with pytest.raises(UserError, match="line 1001 is not UTF-8"):
        count_words(base, [tmp_path / "a.txt"], "text", "counting", processes=2)


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("name", ["llama2", "mistral-v1", "gpt2"])
def test_counts_of_real_text_equal_those_of_lines(name):
    base = read(DATA / "tokenizers" / name)
    paths = [DATA / f"text/{language}.heldout.txt" for language in ("tr", "hi")]
    words = count_words(base, paths, "text", "counting", 1)[0]
    assert words.counts == count_lines(base, text.documents(paths)).counts


WARNINGS = {
    "the target's script": (["çok güzel bir gün"], ["iyi bir ev"], [], ""),
    "another script than the parallel text's": (["a fine day", "घर"], ["पानी और नदी"], [], "only 20.0% of the letters"),
    "the guard's script, with another": (["a fine day in town", "घर"], [], ["the house"], "Latin, the guard's script"),
    "the guard's script alone": (["çok güzel bir gün"], [], ["the house"], ""),
    "the guard's script, with letters of every script": (["\u02bbo ia \u02bbaina"], [], ["the house"], ""),
}  # fmt: skip


@pytest.mark.parametrize(("corpus", "target", "guard", "says"), WARNINGS.values(), ids=list(WARNINGS))
def test_corpus_in_another_script_is_warned_of(tmp_path, capsys, corpus, target, guard, says):
    files = [samples.write(tmp_path / "target.txt", target)] if target else []
    script.warn(dict.fromkeys(corpus, 1), files, dict.fromkeys(guard, 1), "text")
    said = capsys.readouterr().out
    assert says in said and bool(said) == bool(says)


def test_stage_learns_from_a_sample_of_the_text_field_and_warns(tmp_path, capsys):
    records = [json.dumps({"content": line}) for line in samples.target()]
    corpus = samples.write(tmp_path / "a.jsonl", records)
    tamil = samples.write(tmp_path / "ta.txt", ["வணக்கம் நண்பா"])
    config = Config()
    config.data.text_field = "content"
    config.tokenizer.new_tokens, config.tokenizer.sample_documents = 20, 300
    inputs = {"base": [samples.byte_level_base(tmp_path / "base")], "text": [corpus], "parallel.ta": [tamil]}
    (tmp_path / "out").mkdir()
    build(config, inputs, tmp_path / "out")
    drawn = list(text.documents([tmp_path / "out" / "sample.jsonl.zst"], "content"))
    said = capsys.readouterr().out
    assert len(drawn) == 300 and "learning from 300 of 600 documents" in said
    assert "warning: only 0.0% of the letters of tokenizer.text are Tamil" in said
    assert json.loads((tmp_path / "out" / "learn.json").read_text())["added"] == 20
