"""Ids of the data stage equal those of ``documents.encode``, for every kind of base, word by word or whole."""

import json
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, pre_tokenizers
from unit.tokenizer.tokenizer_samples import byte_level_base, english, sentencepiece_base, target

from nemo_adapt import hf_tokenizer
from nemo_adapt.data import encode, store
from nemo_adapt.data.encode import Encoder
from nemo_adapt.data.stage import rule_of
from nemo_adapt.hf_tokenizer.regexes import KEPT, LLAMA3
from nemo_adapt.tokens import documents

PLAIN = ["the", "river", "s", ".", "'s", "12345", "ğ", "kış", "K", "語", "😀"]
SPELLED = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|pad|>", "<0x41>", "<tool>", "tool", "▁", "▁▁", "Ġ"]
STRANGE = ["\xe9", "e\u0301", "\u0301", "\uffff", "\t", "\xa0", "\u2003", "\x1c", "\n"]
SIGNS = st.sampled_from([*PLAIN, *SPELLED, *STRANGE])
SPACES = st.sampled_from([" ", " ", " ", "", "  "])
TEXTS = st.lists(st.tuples(SIGNS, SPACES).map("".join), max_size=14).map("".join)


def llama3_like(folder):
    """Byte-level with Llama-3's split regex, NFC, and an added token that is not special."""
    tokenizer = Tokenizer.from_file(str(byte_level_base(folder) / "tokenizer.json"))
    parts = [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return change(folder, json.loads(tokenizer.to_str()), normalizer={"type": "NFC"})


def change(folder, content, **parts):
    (folder / "tokenizer.json").write_text(json.dumps({**content, **parts}))
    return folder


def as_json(folder):
    """The ``tokenizer.json`` that stands for a folder's tokenizer."""
    return json.loads(hf_tokenizer.load(folder).backend_tokenizer.to_str())


def truncating_and_padding(folder):
    """A tokenizer.json that truncates texts to two tokens and pads them."""
    byte_level_base(folder)
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 64, "pad_token": "!"}
    padding |= {"pad_id": 0, "pad_type_id": 0}
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    return change(folder, as_json(folder), truncation=cut, padding=padding)


def prefixed(folder):
    content = as_json(byte_level_base(folder))
    return change(folder, content, pre_tokenizer={**content["pre_tokenizer"], "add_prefix_space": True})


def metaspace(folder):
    """As transformers writes the tokenizer of newer Llama models."""
    content = as_json(sentencepiece_base(folder))
    (folder / "tokenizer.model").unlink()
    mark = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return change(folder, content, normalizer=None, pre_tokenizer=mark)


def gemma_like(folder):
    content = as_json(sentencepiece_base(folder))
    (folder / "tokenizer.model").unlink()
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return change(folder, content, normalizer=content["normalizer"]["normalizers"][1], pre_tokenizer=split)


def crossing(folder):
    """With a token that has a space after a visible character."""
    content = as_json(sentencepiece_base(folder))
    (folder / "tokenizer.model").unlink()
    content["model"]["vocab"]["▁the▁"] = len(content["model"]["vocab"])
    content["model"]["merges"].append(["▁the", "▁"])
    return change(folder, content)


def other_regex(folder):
    """With a split regex that joins two words across a space."""
    content = as_json(byte_level_base(folder))
    split = {"type": "Split", "pattern": {"Regex": r"\w+ \w+|."}, "behavior": "Isolated", "invert": False}
    byte_level = {**content["pre_tokenizer"], "use_regex": False}
    return change(folder, content, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]})


BASES = {
    "sentencepiece": (sentencepiece_base, "▁"),
    "sentencepiece without bytes": (lambda folder: sentencepiece_base(folder, byte_fallback=False, vocab_size=80), "▁"),
    "sentencepiece with a user-defined symbol": (
        lambda folder: sentencepiece_base(folder, user_defined_symbols=["<tool>"]), ""),
    "unigram": (lambda folder: sentencepiece_base(folder, model_type="unigram", vocab_size=310), ""),
    "metaspace": (metaspace, "▁"),
    "gemma": (gemma_like, "▁"),
    "token across a space": (crossing, ""),
    "byte-level": (byte_level_base, "Ġ"),
    "byte-level with a prefix space": (prefixed, "Ġ"),
    "byte-level, truncating and padding": (truncating_and_padding, "Ġ"),
    "llama 3": (llama3_like, "Ġ"),
    "byte-level with another regex": (other_regex, ""),
}  # fmt: skip
"""Name -> its maker, and the space symbol if it may be given single words (else empty)."""


@pytest.fixture(scope="module", params=BASES)
def base(request, tmp_path_factory):
    """A tokenizer and its encoder, shared by the tests as it caches words; also checks the rule's space symbol."""
    make, space = BASES[request.param]
    folder = make(tmp_path_factory.mktemp("base"))
    tokenizer, rule = hf_tokenizer.load(folder), rule_of(folder)
    assert rule.space == space
    return tokenizer, Encoder(rule)


def ids_of(encoder, texts):
    return [np.frombuffer(raw, encoder.rule.typecode).tolist() for raw in encoder.encode(texts)]


def expected(tokenizer, texts):
    prefix, end = documents.training_prefix(tokenizer), documents.end_id(tokenizer)
    return [[*prefix, *ids, end] for ids in documents.encode(tokenizer, texts)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["", " ", "the  river <tool>s</s> ▁ s", "a the river"])
def test_ids_equal_those_of_the_tokenizer(base, texts):
    tokenizer, encoder = base
    assert ids_of(encoder, texts) == expected(tokenizer, texts)


def test_ids_of_ordinary_text_equal_those_of_the_tokenizer(base):
    tokenizer, encoder = base
    texts = english(200) + target(200)
    assert ids_of(encoder, texts) == expected(tokenizer, texts) == ids_of(encoder, texts[::-1])[::-1]


def test_long_documents_split_between_words_have_the_same_ids(base, monkeypatch):
    tokenizer, encoder = base
    text = "  ".join(" ".join(english(20)) for _ in range(3)) + "\t" + "x" * 500
    for at_once in (1, 7, 100):
        monkeypatch.setattr(encode, "PIECE_CHARACTERS", at_once)
        assert ids_of(encoder, ["s", text, "s"]) == expected(tokenizer, ["s", text, "s"])


def test_a_full_cache_is_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "CACHE_SIZE", 20)
    folder = sentencepiece_base(tmp_path)
    encoder, tokenizer = Encoder(rule_of(folder)), hf_tokenizer.load(folder)
    texts = english(100)
    assert [ids for text in texts for ids in ids_of(encoder, [text])] == expected(tokenizer, texts)
    assert 0 < len(encoder.cache) <= 20 and max(map(len, encoder.cache)) <= encode.LONGEST_CACHED


def test_split_regexes_begin_a_word_at_every_single_space():
    """``word_boundaries.space_of`` relies on this; tested for each known regex with characters of all kinds."""
    draw = random.Random(0)
    signs = [
        "a",
        "B",
        "ğ",
        "é",
        "7",
        "42",
        ".",
        "'s",
        "'",
        "(",
        "₺",
        "😀",
        "語",
        "\u0301",
        "का",
        "\u200d",
        "\uffff",
        "_",
    ]
    for regex in KEPT.values():
        split = pre_tokenizers.Split(Regex(regex), "isolated")
        for _ in range(2000):
            words = ["".join(draw.choices(signs, k=draw.randint(1, 4))) for _ in range(4)]
            begins = {start for _, (start, _) in split.pre_tokenize_str(" ".join(words))}
            at = np.cumsum([len(word) + 1 for word in words[:-1]]) - 1
            assert begins >= set(at.tolist()), words


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_535, np.uint16), (65_536, np.int32), (65_537, np.int32)])
def test_the_token_dtype_follows_the_vocab_size(vocabulary, dtype):
    assert store.token_dtype(vocabulary) is dtype


def test_an_id_that_overflows_16_bits_raises_instead_of_wrapping(tmp_path):
    """The same ids fit in 32 bits."""
    tokenizer = Tokenizer.from_file(str(byte_level_base(tmp_path) / "tokenizer.json"))
    content = json.loads(tokenizer.to_str())
    moved = {token: i + 65_500 for token, i in content["model"]["vocab"].items()}
    content = {**content, "model": {**content["model"], "vocab": moved}, "added_tokens": []}
    wide = encode.Rule(json.dumps(content), "i", (), 65_999, "Ġ")
    [ids] = ids_of(Encoder(wide), ["the river"])
    assert max(ids) > 65_535 and ids[:-1] == Tokenizer.from_str(json.dumps(content)).encode("the river").ids
    with pytest.raises(OverflowError):
        Encoder(encode.Rule(json.dumps(content), "H", (), 0, "Ġ")).encode(["the river"])
