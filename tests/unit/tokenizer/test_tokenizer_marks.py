"""tokenizer.keep_marks: which text the changed regex splits differently, and how the regex is chosen."""

import json
import shutil

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizer_samples import DATA, byte_level_base, english, extend, needs_data, target, write
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer import regexes
from nemo_adapt.hf_tokenizer.tiktoken_ranks import LLAMA3
from nemo_adapt.tokenizer import marks
from nemo_adapt.tokens.token_map import TokenMap

SPLITS = {
    name: (Split(Regex(pattern), "isolated"), Split(Regex(regexes.KEPT[pattern]), "isolated"))
    for name, pattern in (("gpt2", regexes.GPT2), ("llama3", regexes.LLAMA3), ("qwen2", regexes.QWEN2))
}
MARKED_LETTER = regex.compile(r"\p{L}\p{M}")
ARABIC = {"كتاب": "كِتَاب", "قلم": "قَلَم", "بيت": "بَيْت", "شمس": "شَمْس", "قمر": "قَمَر", "باب": "بَاب"}


def open_lines(name):
    return (DATA / name).read_text(encoding="utf-8").split("\n")


def words(split, line):
    return [word for word, _ in split.pre_tokenize_str(line)]


@pytest.mark.parametrize("name", SPLITS)
@settings(max_examples=300)
@example(text="A\U000113c5")  # a mark since Unicode 16: known to the library that splits, but not to Python 3.11
@given(text=st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("'sS t12 \n\téش中"), max_size=40))
def test_text_without_marks_is_split_as_before(name, text):
    before, after = SPLITS[name]
    without = "".join(words(Split(Regex(r"\p{M}"), "removed"), text))
    plain = "".join(character for character in without if not marks.is_mark(character))
    assert words(before, plain) == words(after, plain)


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("text", ["❤️ 👨\u200d👩\u200d👧 1️⃣", "x 🏳️\u200d🌈.", " \u0301", "3\u0301 +\u200d"])
def test_marks_that_follow_no_letter_are_split_as_before(name, text):
    before, after = SPLITS[name]
    assert words(before, text) == words(after, text)


@pytest.mark.parametrize("name", SPLITS)
def test_words_with_marks_stay_whole(name):
    line = "किताब क्\u200dष தமிழ் cafe\u0301 می\u200cخواهم"
    assert words(SPLITS[name][1], line)[:1] == ["किताब"]
    assert [word.strip() for word in words(SPLITS[name][1], line)] == line.split()


def test_llama3_rank_files_use_a_regex_that_can_keep_marks():
    assert LLAMA3.split == regexes.LLAMA3


@needs_data
@pytest.mark.data
def test_english_is_split_as_before():
    lines = [*open_lines("text/en.heldout.txt"), *open_lines("text/en.train.txt")[::8]]
    text = "\n".join([*lines, *open_lines("parallel/flores200-dev/en.txt")])
    for before, after in SPLITS.values():
        assert words(before, text) == words(after, text)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return byte_level_base(tmp_path_factory.mktemp("base"))


def kept(base, tmp_path, lines, **settings):
    out = extend(
        base, tmp_path / f"out{len(list(tmp_path.iterdir()))}", [write(tmp_path / "text.txt", lines)], 80, **settings
    )
    return out, json.loads((out / "learn.json").read_text())["keep_marks"]


def test_auto_takes_the_regex_that_needs_fewer_tokens(base, tmp_path):
    _, hindi = kept(base, tmp_path, target())
    assert hindi["kept"] and hindi["tokens_kept"] < hindi["tokens_split"] and hindi["optional_share"] < 0.5
    assert kept(base, tmp_path, english())[1] == {"asked": "auto", "kept": False}
    names = list(ARABIC)
    mixed = [" ".join(ARABIC[name] if (i + k) % 3 else name for k, name in enumerate(names)) for i in range(200)]
    _, arabic = kept(base, tmp_path, mixed)
    assert not arabic["kept"] and arabic["optional_share"] == 1.0 and arabic["tokens_split"] <= arabic["tokens_kept"]


def test_keep_marks_can_be_set_to_true_or_false(base, tmp_path):
    split, report = kept(base, tmp_path, target(), keep_marks="False")  # as Hydra writes false
    assert report == {"asked": "false", "kept": False}
    whole, report = kept(base, tmp_path, target(), keep_marks="true")
    assert report == {"asked": "true", "kept": True}
    before = json.loads((base / "tokenizer.json").read_text())
    assert json.loads((split / "tokenizer.json").read_text())["pre_tokenizer"] == before["pre_tokenizer"]
    assert not any(MARKED_LETTER.search(token.text) for token in TokenMap.load(split).tokens)
    assert any(MARKED_LETTER.search(token.text) for token in TokenMap.load(whole).tokens)
    _, again = kept(whole, tmp_path, target(), keep_marks="true")  # the changed regex is a known one as well
    assert again["kept"]
    original = hf_tokenizer.load(base)
    for token in TokenMap.load(whole).tokens:
        if "\ufffd" not in token.text:
            assert original(token.text)["input_ids"] == token.source_ids
            assert original.decode(token.source_ids) == token.text


@pytest.mark.parametrize(("asked", "lines", "said"), [
    ("auto", target, 1), ("true", target, 1), ("false", target, 0), ("auto", english, 0),
])  # fmt: skip
def test_kept_marks_are_said_because_llama_cpp_does_not_keep_them(base, tmp_path, capsys, asked, lines, said):
    kept(base, tmp_path, lines(), keep_marks=asked)
    assert capsys.readouterr().out.count("for GGUF give tokenizer.keep_marks=false") == said


def test_unknown_regex_stays_and_cannot_be_rewritten(base, tmp_path):
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "prefix").mkdir()
    (tmp_path / "prefix/tokenizer.json").write_text(json.dumps(content))
    assert kept(tmp_path / "prefix", tmp_path, target())[1] == {"asked": "auto", "kept": False}
    with pytest.raises(UserError, match="keep_marks=true needs the split regex of"):
        kept(tmp_path / "prefix", tmp_path, target(), keep_marks="true")
    with pytest.raises(UserError, match="keep_marks=maybe: choose one of auto, true, false"):
        kept(base, tmp_path, target(), keep_marks="maybe")


@needs_data
@pytest.mark.data
def test_new_tamil_tokens_of_gpt2_include_marks(tmp_path):
    lines = open_lines("text/ta.train.txt")[::16]
    out = extend(DATA / "tokenizers/gpt2", tmp_path / "out", [write(tmp_path / "ta.txt", lines)], 400)
    assert json.loads((out / "learn.json").read_text())["keep_marks"]["kept"]
    source, now = hf_tokenizer.load(DATA / "tokenizers/gpt2"), hf_tokenizer.load(out)
    new = TokenMap.load(out).tokens
    whole = [token for token in new if "\ufffd" not in token.text]
    assert len(whole) > 350
    for token in whole:
        assert source.decode(token.source_ids) == now.decode([token.id]) == token.text
        assert source(token.text)["input_ids"] == token.source_ids
    assert sum(MARKED_LETTER.search(token.text) is not None for token in whole) > 100
    parallel = open_lines("parallel/flores200-dev/en.txt")[:300]
    size, after = len(source), [now(line)["input_ids"] for line in parallel]
    same = [ids == source(line)["input_ids"] for line, ids in zip(parallel, after, strict=True) if max(ids) < size]
    assert all(same) and len(same) > 280


def test_a_qwen2_model_gets_a_tokenizer_that_transformers_5_loads_with_the_same_ids(tmp_path, capsys):
    """AutoTokenizer takes Qwen's own regex there: with kept marks, all Hindi text would have other ids than trained."""
    base = byte_level_base(tmp_path / "base")
    content = json.loads((base / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": regexes.QWEN2}, "behavior": "Isolated", "invert": False}
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    content |= {"normalizer": {"type": "NFC"}}
    content |= {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_only]}}
    (base / "tokenizer.json").write_text(json.dumps(content))
    (base / "config.json").write_text('{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}')
    texts = tmp_path / "texts"
    texts.mkdir()
    out, report = kept(base, texts, target())
    said = capsys.readouterr().out
    assert not report["kept"] and "AutoTokenizer of transformers 5 splits qwen2 models" in said
    assert FOREIGN not in said
    shutil.copyfile(base / "config.json", out / "config.json")
    ours, theirs = hf_tokenizer.load(out), AutoTokenizer.from_pretrained(str(out))
    assert all(ours(line)["input_ids"] == theirs(line)["input_ids"] for line in target())
    assert kept(base, texts, target(), keep_marks="true")[1]["kept"]
    assert "not with AutoTokenizer" in capsys.readouterr().out


FOREIGN = "which this base does not have"


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_foreign_tokenizer_of_a_qwen2_model_is_said(tmp_path, capsys, kind):
    """AutoTokenizer takes Qwen's regex and normalizer there too, though nothing of the tokenizer is Qwen's."""
    base = byte_level_base(tmp_path / "base")
    (base / "config.json").write_text(json.dumps({"model_type": kind, "architectures": ["Other"]}))
    out = extend(base, tmp_path / "out", [write(tmp_path / "text.txt", target())], 20)
    shutil.copyfile(base / "config.json", out / "config.json")
    ours, theirs = hf_tokenizer.load(out), AutoTokenizer.from_pretrained(str(out))
    accent = "e\u0301"
    assert (ours.tokenize(accent) == theirs.tokenize(accent)) == (kind == "qwen3")
    assert (FOREIGN in capsys.readouterr().out) == (kind == "qwen2")


def test_only_the_beginnings_of_long_lines_are_compared(monkeypatch):
    """A line may be a book: all of a hundred thousand would not fit into memory."""
    monkeypatch.setattr(marks, "LONGEST", 10)
    monkeypatch.setattr(marks, "MOST", 35)
    assert marks.sample(iter(["a" * 100] * 9)) == ["a" * 10] * 4
    assert marks.sample(iter(["ab", "cd"])) == ["ab", "cd"]
