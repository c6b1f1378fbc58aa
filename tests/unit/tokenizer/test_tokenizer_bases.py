"""Bases other than SentencePiece BPE and GPT-2's: tiktoken ranks, Unigram, a SentencePiece-like JSON alone."""

import base64
import io
import itertools
import json
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import regex
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_samples import DATA, english, extend, needs_data, sentencepiece_base, target, write
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.tiktoken_ranks import LLAMA3, RankKind, ranks_json, read_ranks
from nemo_adapt.hf_tokenizer.unigram import NEVER
from nemo_adapt.tokenizer.base import read
from nemo_adapt.tokenizer.encode import bare, encode_words
from nemo_adapt.tokenizer.unigram_scores import new_scores, repeats
from nemo_adapt.tokens.token_map import TokenMap

UNIGRAM = {"model_type": "unigram", "hard_vocab_limit": False, "vocab_size": 400}


def reference(ranks):
    """Plain implementation of tiktoken's rule: a whole word if it is a token, else the lowest-ranked merge first."""

    @lru_cache(None)
    def encode(word):
        if word in ranks:
            return [ranks[word]]
        parts = [word[i : i + 1] for i in range(len(word))]
        while True:
            options = [(ranks[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks]
            if not options:
                return [ranks[part] for part in parts]
            at = min(options)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]

    return encode


def lines_of(name, step=1):
    return (DATA / f"text/{name}.txt").read_text(encoding="utf-8").split("\n")[::step]


def ids(tokenizer, lines):
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(lines, add_special_tokens=False)]


def rank_file(path, tokens):
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens)))
    return path


@settings(max_examples=150)
@given(
    longer=st.lists(st.text("abc", min_size=2, max_size=6), max_size=12, unique=True),
    words=st.lists(st.text("abc", min_size=1, max_size=12), max_size=8),
)
def test_any_ranks_give_the_ids_of_tiktoken(longer, words):
    tokens = [bytes([byte]) for byte in range(256)] + [token.encode() for token in longer]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    model = bare(ranks_json(ranks, RankKind(r"\p{L}+", ("<s>",), "<s>", "<s>"), {}))
    assert list(encode_words(model, words).lists()) == [reference(ranks)(word.encode()) for word in words]


@pytest.fixture(scope="module")
def llama3():
    return hf_tokenizer.load(DATA / "tokenizers/llama3")


@needs_data
@pytest.mark.data
def test_llama3_ids_equal_tiktoken_in_all_languages(llama3):
    ranks, _ = read_ranks(DATA / "tokenizers/llama3/tokenizer.model")
    encode, split = reference(ranks), regex.compile(LLAMA3.split)
    for name in ("en.heldout", "tr.heldout", "hi.heldout", "ar.train", "sw.train", "ta.train"):
        lines = lines_of(name, 5 if name.endswith("heldout") else 40)
        expected = [[i for word in split.findall(line) for i in encode(word.encode())] for line in lines]
        assert sum(a != b for a, b in zip(ids(llama3, lines), expected, strict=True)) == 0, name
        assert [llama3.decode(i) for i in expected[:50]] == lines[:50]


@needs_data
@pytest.mark.data
def test_llama3_special_tokens_have_the_ids_of_meta(llama3):
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>"]
    names += ["<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>", "<|reserved_special_token_250|>"]
    assert llama3.convert_tokens_to_ids(names) == [128000, 128001, 128002, 128006, 128007, 128008, 128009, 128255]
    assert len(llama3) == 128256 and hf_tokenizer.adds_bos(llama3) and llama3.eos_token_id == 128001
    assert llama3("a<|eot_id|>")["input_ids"] == [128000, 64, 128009]


@needs_data
@pytest.mark.data
def test_extended_llama3_round_trips_arabic_and_keeps_other_ids(llama3, tmp_path):
    train = write(tmp_path / "ar.txt", lines_of("ar.train", 40))
    out = extend(DATA / "tokenizers/llama3", tmp_path / "out", [train], 300, keep_marks="false")
    now = AutoTokenizer.from_pretrained(str(out))
    new = TokenMap.load(out).tokens
    assert [token.id for token in new] == list(range(128256, 128556))
    whole = [token for token in new if "\ufffd" not in token.text]
    assert len(whole) > 290
    for token in whole:
        assert llama3.decode(token.source_ids) == now.decode([token.id]) == token.text
    for line in [*lines_of("en.heldout", 20), *lines_of("ar.train", 200), "<|eot_id|>x"]:
        found = now(line)["input_ids"]
        assert now.decode(found, skip_special_tokens=False) == "<|begin_of_text|>" + line
        if max(found) < 128256:
            assert found == llama3(line)["input_ids"]


def test_given_names_of_special_tokens_replace_the_default_ones():
    ranks = {bytes([byte]): byte for byte in range(256)}
    content = ranks_json(ranks, LLAMA3, {264: "<|eom_id|>", 3: "no"})
    assert [content["added_tokens"][i]["content"] for i in (0, 8, 9)] == [
        "<|begin_of_text|>",
        "<|eom_id|>",
        "<|eot_id|>",
    ]


def test_corrupt_rank_file_is_named_with_its_line(tmp_path):
    tokens = [bytes([byte]) for byte in range(256)]
    path = rank_file(tmp_path / "tokenizer.model", tokens)

    def message():
        with pytest.raises(UserError) as error:
            hf_tokenizer.load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "256 tiktoken ranks" in message()
    good = path.read_bytes()
    path.write_bytes(good.replace(b"/w== 255", b"/w== 256"))
    assert "line 256 should have rank 255" in message()
    path.write_bytes(good + good[:8])
    assert "line 257" in message()
    path.write_bytes(good[:-5])
    assert "line 256 is no" in message()
    path.write_bytes(good.replace(b"/w==", b"/w="))
    assert "line 256 is no" in message()


@pytest.fixture(scope="module", params=[True, False], ids=["bytes", "no_bytes"])
def unigram(request, tmp_path_factory):
    """A Unigram base on synthetic English, and its extension by 60 tokens."""
    folder = tmp_path_factory.mktemp("unigram")
    base = sentencepiece_base(folder / "base", **UNIGRAM, byte_fallback=request.param)
    return base, extend(base, folder / "out", [write(folder / "target.txt", target())], 60)


def test_unigram_base_is_extended_in_both_formats(unigram):
    base, out = unigram
    fast, model = AutoTokenizer.from_pretrained(str(out)), sentencepiece.SentencePieceProcessor()
    model.Load(str(out / "tokenizer.model"))
    before = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    new = TokenMap.load(out)
    assert len(new.tokens) == 60 and new.target_vocab == model.vocab_size() == len(fast)
    assert new.source_vocab == before.vocab_size() and not any(repeats(token.token) for token in new.tokens)
    lines = [*english(100), *target(), "  the   çiçek ", "<0x41> <s", "", "đ 😀 kışđ"]
    assert ids(fast, lines) == model.encode(lines)
    size = before.vocab_size()
    for line in lines:
        found = model.encode(line)
        if all(i < size for i in found):
            assert found == before.encode(line)
    for token in new.tokens:
        assert list(encode_words(bare(read(out).content), [token.token]).lists()) == [[token.id]]
    learned = json.loads((out / "learn.json").read_text())
    assert learned["unreachable"]["left"] == 0 and learned["lines_unlike_sentencepiece"] == 0
    assert sum(map(len, model.encode(target()))) < 0.7 * sum(map(len, before.encode(target())))


def test_unigram_json_without_its_model_can_be_extended(tmp_path):
    base = sentencepiece_base(tmp_path / "base", **UNIGRAM)
    fast = hf_tokenizer.load(base)
    fast.add_special_tokens({"pad_token": "<pad>"})
    fast.save_pretrained(tmp_path / "json")
    (tmp_path / "json/tokenizer.model").unlink(missing_ok=True)
    out = extend(tmp_path / "json", tmp_path / "out", [write(tmp_path / "target.txt", target())], 60)
    again = hf_tokenizer.load(out)
    assert len(again) == len(fast) + 60 and again.pad_token_id == fast.pad_token_id
    assert not (out / "tokenizer.model").exists()
    assert sum(map(len, ids(again, target()))) < 0.7 * sum(map(len, ids(fast, target())))


@pytest.mark.parametrize("kind", [UNIGRAM, {"vocab_size": 60}], ids=["unigram", "bpe"])
@pytest.mark.parametrize("falls_back", [True, False])
def test_new_tokens_that_the_base_spells_as_unknown_are_counted(tmp_path, capsys, kind, falls_back):
    """Strategies that combine pieces would give many of them the same row."""
    size = {"vocab_size": kind["vocab_size"] + 256 * falls_back}
    base = sentencepiece_base(tmp_path / "base", **{**kind, **size}, byte_fallback=falls_back)
    out = extend(base, tmp_path / "out", [write(tmp_path / "target.txt", target())], 60)
    unknown = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model")).unk_id()
    count = sum(unknown in token.source_ids for token in TokenMap.load(out).tokens)
    said = f"{count} of 60 new tokens have characters that the base does not know, and spells with <unk>"
    assert (count > 40) != falls_back and (said in capsys.readouterr().out) == (count > 0) != falls_back


@needs_data
@pytest.mark.data
def test_real_unigram_base_gives_the_ids_of_sentencepiece(tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines_of("en.heldout", 2) + lines_of("tr.heldout", 4)),
        model_writer=model, model_type="unigram", vocab_size=4000, character_coverage=0.9998, minloglevel=2,
    )  # fmt: skip
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.model").write_bytes(model.getvalue())
    out = extend(base, tmp_path / "out", [write(tmp_path / "tr.txt", lines_of("tr.train", 16))], 1000)
    size = 4000
    for name, step in (("en.heldout", 2), ("tr.heldout", 1), ("hi.heldout", 3)):
        lines = lines_of(name, step)
        before, after = (
            sentencepiece.SentencePieceProcessor(model_file=str(f / "tokenizer.model")) for f in (base, out)
        )
        assert ids(hf_tokenizer.load(base), lines) == before.encode(lines)
        found = ids(hf_tokenizer.load(out), lines)
        assert found == after.encode(lines)
        old = before.encode(lines)
        assert all(i == j for i, j in zip(found, old, strict=True) if all(x < size for x in i))
        if name == "tr.heldout":
            assert sum(map(len, found)) < 0.92 * sum(map(len, old))
            fast = hf_tokenizer.load(out)
            known = [(i, j) for i, j in zip(found, old, strict=True) if before.unk_id() not in i + j]
            assert all(fast.decode(i) == before.decode(j) for i, j in known[:200])
    anchor = before.encode("the")
    for token in TokenMap.load(out).tokens:
        if before.unk_id() not in token.source_ids:
            assert before.decode(anchor + token.source_ids) == "the" + token.text


@needs_data
@pytest.mark.data
def test_llama2_json_without_its_model_keeps_its_merges(tmp_path):
    base = hf_tokenizer.load(DATA / "tokenizers/llama2")
    base.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    train = write(tmp_path / "tr.txt", list(islice(text.documents([DATA / "text/tr.train.txt"]), 1000)))
    out = extend(tmp_path / "tokenizer.json", tmp_path / "out", [train], 300)
    given = json.loads((tmp_path / "tokenizer.json").read_text())
    saved = json.loads((out / "tokenizer.json").read_text())
    merges = given["model"]["merges"]
    assert saved["model"]["merges"][: len(merges)] == merges and len(saved["model"]["merges"]) > len(merges)
    assert {key: saved[key] for key in saved if key != "model"} == {key: given[key] for key in given if key != "model"}
    fast, lines = AutoTokenizer.from_pretrained(str(out)), lines_of("tr.heldout", 5) + lines_of("hi.heldout", 20)
    now, before = ids(fast, lines), ids(base, lines)
    assert [fast.decode(i) for i in now] == [base.decode(i) for i in before]
    assert all(i == j for i, j in zip(now, before, strict=True) if max(i, default=0) < 32000)
    assert sum(map(len, now)) < 0.9 * sum(map(len, before)) and fast("a")["input_ids"][0] == 1


def test_a_unigram_tokenizer_without_scores_is_named():
    """As one that ends after its special tokens."""
    base = SimpleNamespace(content={"model": {"vocab": [["<unk>", NEVER]]}}, path=Path("cut/tokenizer.model"))
    with pytest.raises(UserError, match=r"^cut/tokenizer\.model: no piece of this Unigram tokenizer has a score"):
        new_scores(base, ["ab"])
