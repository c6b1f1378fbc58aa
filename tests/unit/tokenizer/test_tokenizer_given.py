"""Tokenizers that extend the base already: by an earlier run, or by ``add_tokens`` in transformers."""

import json
from dataclasses import replace
from unittest import mock

import pytest
from tokenizer_samples import byte_level_base, extend, sentencepiece_base, target, write
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run import reads
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.tokenizer import given, settings
from nemo_adapt.tokenizer.stage import build
from nemo_adapt.tokens.token_map import TokenMap

KINDS = {"sentencepiece": sentencepiece_base, "byte_level": byte_level_base}
WORDS = ["glikoz", "hemo globin", "ığşç"]


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    return KINDS[request.param](tmp_path / "base")


def taken(base, extended, out):
    out.mkdir()
    build(Config(), {"base": [base], "given": [extended], "guard": []}, out)
    return out


def ids(folder, text):
    return hf_tokenizer.load(folder)(text, add_special_tokens=False)["input_ids"]


def base_splits(base):
    """Whether the base has a regex that splits words before marks: tokens that keep them are spelled in parts."""
    return hf_tokenizer.find(base).model is None


def test_the_tokenizer_of_an_earlier_run_is_taken_with_its_map(base, tmp_path, monkeypatch):
    text = [write(tmp_path / "text.txt", target())]
    earlier = extend(base, tmp_path / "earlier", text, 60, **({"keep_marks": "true"} if base_splits(base) else {}))
    (earlier / "token_map.json").rename(tmp_path / "map.json")
    split_first = mock.Mock(wraps=given.marks.spellings)
    monkeypatch.setattr(given.marks, "spellings", split_first)
    out = taken(base, earlier, tmp_path / "out")
    assert split_first.call_count == base_splits(base)
    (tmp_path / "map.json").rename(earlier / "token_map.json")
    before, now = TokenMap.load(earlier), TokenMap.load(out)
    assert len(now.tokens) > 30 and now.source_vocab == before.source_vocab
    assert now.tokens == [replace(token, count=0) for token in before.tokens]
    assert all(ids(out, line) == ids(earlier, line) for line in target(50))
    assert json.loads((out / "learn.json").read_text())["added"] == len(now.tokens)


def test_words_that_were_added_in_transformers_are_spelled_by_the_base(base, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    tokenizer.add_tokens(WORDS)
    tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    tokenizer.save_pretrained(str(tmp_path / "given"))
    out = taken(base, tmp_path / "given", tmp_path / "out")
    new = TokenMap.load(out)
    assert [token.text for token in new.tokens] == [*WORDS, "<|tool|>"]
    assert new.target_vocab == len(tokenizer) == len(hf_tokenizer.load(out))
    for token in new.tokens:
        assert token.id in ids(out, f"bir {token.text} iki") and token.bytes == len(token.text.encode())
        assert hf_tokenizer.load(base).decode(token.source_ids).strip() == token.text
    again = AutoTokenizer.from_pretrained(str(out))
    text = f"bir {WORDS[0]} iki <|tool|>{WORDS[2]}"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_a_tokenizer_that_does_not_extend_the_base_is_refused(base, tmp_path):
    others = {name: make(tmp_path / name) for name, make in KINDS.items()}
    content = json.loads((base / "tokenizer.json").read_text()) if (base / "tokenizer.json").is_file() else None
    for name, other in others.items():
        if hf_tokenizer.load(other).get_vocab() != hf_tokenizer.load(base).get_vocab():
            with pytest.raises(UserError, match=rf"tokenizer.given: .*{name} (gives|has no token) .* appended"):
                taken(base, other, tmp_path / f"of {name}")
    if content:
        first, second, *_ = content["model"]["vocab"]
        vocab = content["model"]["vocab"]
        vocab[first], vocab[second] = vocab[second], vocab[first]
        (tmp_path / "swapped.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"gives '.+' the id \d+, in .*base it is \d+"):
            taken(base, tmp_path / "swapped.json", tmp_path / "swapped")


def test_nothing_is_learned_with_a_given_tokenizer(tmp_path):
    config = Config()
    config.model.path, config.tokenizer.base, config.tokenizer.given = "x", str(tmp_path), str(tmp_path)
    found = reads.tokenizer(config, RunFolder(tmp_path))
    assert found["given"] == [tmp_path] and found["text"] == []
    config.tokenizer.given = str(tmp_path / "absent")
    with pytest.raises(UserError, match=r"tokenizer\.given: .*absent does not exist"):
        reads.tokenizer(config, RunFolder(tmp_path))
    config.tokenizer.sweep = [10]
    with pytest.raises(UserError, match=r"tokenizer\.given: nothing is learned; leave out tokenizer\.sweep"):
        settings.check(config)
