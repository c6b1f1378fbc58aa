"""Any base as a fast tokenizer: sentencepiece's own ids, special tokens, clear errors."""

import json
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizer_samples import byte_level_base, english, extend, sentencepiece_base, target, write
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER as VERY_LARGE

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.tokens import fertility
from nemo_adapt.tokens.token_map import TokenMap

UNIGRAM = {"model_type": "unigram", "hard_vocab_limit": False}
VARIANTS = {
    "llama": {},
    "no_prefix": {"add_dummy_prefix": False},
    "collapse_spaces": {"remove_extra_whitespaces": True, "allow_whitespace_only_pieces": False},
    "nfkc": {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
    "no_bytes": {"byte_fallback": False, "vocab_size": 100},
    "user_defined": {"user_defined_symbols": ["<sep>", "▁▁▁▁", "x+y"]},
    "user_defined_no_prefix": {"user_defined_symbols": ["<sep>", "▁▁"], "add_dummy_prefix": False},
    "unigram": UNIGRAM,
    "unigram_no_bytes": {**UNIGRAM, "byte_fallback": False},
    "unigram_nfkc": {**UNIGRAM, "normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
}
TEXT = st.text(st.sampled_from("thesold ▁,.é中\n\t😀किﬁ" + "  "), max_size=24)


@pytest.fixture(scope="module", params=VARIANTS)
def both(request, tmp_path_factory):
    folder = sentencepiece_base(tmp_path_factory.mktemp("base") / request.param, **VARIANTS[request.param])
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return model, hf_tokenizer.load(folder)


def test_sentencepiece_model_gives_sentencepiece_ids(both):
    model, fast = both
    for line in [*english(50), *target(50), "", " ", "  the  old ", "a <sep>  b<sep>", "<sep>", "x+y the x+y"]:
        ids = fast(line)["input_ids"]
        if line != "<sep>":  # alone, the symbol gets no space in front
            assert ids == [model.bos_id(), *model.encode(line)], line
        if model.unk_id() not in ids:  # sentencepiece shows the unknown as ⁇
            assert fast.decode(model.encode(line)) == model.decode(model.encode(line)), line


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT)
def test_any_text_gives_sentencepiece_ids(both, text):
    model, fast = both
    assert fast(text, add_special_tokens=False)["input_ids"] == model.encode(text)


@pytest.mark.parametrize("rule", ["nfkc", "nmt_nfkc", "nfkc_cf", "nmt_nfkc_cf"])
def test_marks_are_not_lost_with_rules_of_nfkc(tmp_path, rule):
    """Letters and marks apart (NFD), marks in the order in which they are typed, and single characters."""
    base = sentencepiece_base(tmp_path, normalization_rule_name=rule, remove_extra_whitespaces=True)
    model = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    fast = hf_tokenizer.load(base)
    words = ["Tiếng Việt là ngôn ngữ", "ọ̀rọ̀ Yorùbá ẹ́", "ǘ ṩ ἆ", "Å ﬁ ½ ﷺ ｱﾞ 각 ㋿"]
    texts = [unicodedata.normalize(form, word) for word in words for form in ("NFD", "NFC")]
    texts += ["\u0631\u0628\u0651\u0650", "\u0631\u0628\u0650\u0651", "\u05d1\u05bc\u05b0", "\u05e9\u05c1\u05bc\u05b8"]
    texts += ["\u1001\u103d\u1004\u103a\u1037", "\u1004\u1037\u103a", "\u0930\u093c\u094d\u092f", "\u0958"]
    texts += ["Ọ̀ṣun Ɛ̀ É̱", "I\u0307stanbul İ"]
    uppercase = (chr(code) for code in range(0x3000) if unicodedata.category(chr(code)) == "Lu")
    texts += [letter + "\u0358" for letter in uppercase if "CHEROKEE" not in unicodedata.name(letter)]
    texts += [f"a{chr(code)}b" for code in range(0xA0, 0x10000) if unicodedata.category(chr(code))[0] != "C"]
    unlike = [text for text in texts if fast(text, add_special_tokens=False)["input_ids"] != model.encode(text)]
    assert unlike == []


def test_special_tokens_and_bos_of_a_sentencepiece_model(tmp_path):
    fast = hf_tokenizer.load(sentencepiece_base(tmp_path))
    assert (fast.bos_token, fast.eos_token, fast.unk_token) == ("<s>", "</s>", "<unk>")
    assert hf_tokenizer.adds_bos(fast)
    assert fast("the")["input_ids"][0] == fast.bos_token_id
    assert set(fast("the")) == {"input_ids", "attention_mask"}


def test_config_next_to_a_sentencepiece_model_is_kept(tmp_path):
    folder = sentencepiece_base(tmp_path)
    config = {"add_bos_token": False, "chat_template": "{{ messages }}", "pad_token": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    fast = hf_tokenizer.load(folder)
    assert not hf_tokenizer.adds_bos(fast)
    assert (fast.chat_template, fast.pad_token) == ("{{ messages }}", "</s>")


def test_tokenizer_json_alone_gets_its_special_tokens(tmp_path):
    folder = byte_level_base(tmp_path)
    for path in (folder, folder / "tokenizer.json"):
        fast = hf_tokenizer.load(path)
        assert (fast.bos_token, fast.eos_token, fast.pad_token) == ("<|endoftext|>", "<|endoftext|>", "<|pad|>")
        assert not hf_tokenizer.adds_bos(fast)
        assert fast.decode(fast("the çiçek")["input_ids"]) == "the çiçek"


def test_tokenizer_json_with_config_is_loaded_unchanged(tmp_path):
    folder = byte_level_base(tmp_path)
    config = {"tokenizer_class": "LlamaTokenizer", "eos_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    bare = hf_tokenizer.load(folder / "tokenizer.json")
    fast = hf_tokenizer.load(folder)
    assert fast.eos_token == "<|pad|>"
    assert [fast(line)["input_ids"] for line in english(30)] == [bare(line)["input_ids"] for line in english(30)]


def test_errors_name_the_bad_file(tmp_path):
    def message(path: Path) -> str:
        with pytest.raises(UserError) as error:
            hf_tokenizer.load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "has no tokenizer" in message(tmp_path)
    assert "does not exist" in message(tmp_path / "nowhere")
    model = sentencepiece_base(tmp_path / "cut") / "tokenizer.model"
    model.write_bytes(model.read_bytes()[:-7])
    assert str(model) in message(model.parent)
    model.write_bytes(b"")
    assert str(model) in message(model.parent)
    model.write_bytes(b"<html>not found</html>")
    assert str(model) in message(model.parent)
    damaged = sentencepiece_base(tmp_path / "damaged") / "tokenizer.model"
    damaged.write_bytes(damaged.read_bytes().replace("▁house".encode(), b"\xff" + "▁house".encode()[1:]))
    assert message(damaged.parent) == f"{damaged} is damaged: a piece is not UTF-8; download it again"
    for kind in ("word", "char"):
        other = sentencepiece_base(tmp_path / kind, model_type=kind, vocab_size=300, hard_vocab_limit=False)
        assert f"SentencePiece {kind}" in message(other / "tokenizer.model")
    for content in ("{", "[]", "{}", '{"model": 3}', "[" * 100_000):
        file = tmp_path / "cut" / "tokenizer.json"
        file.write_text(content)
        assert str(file) in message(file.parent)
        (file.parent / "tokenizer_config.json").write_text("{}")
        assert str(file) in message(file.parent)
        (file.parent / "tokenizer_config.json").unlink()


@pytest.mark.parametrize("content", ["{", "[]", '{"bos_token": {"lstrip": false}}', '{"additional_special_tokens": 3}'])
def test_a_damaged_map_of_special_tokens_is_named(tmp_path, content):
    folder = byte_level_base(tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text(content)
    with pytest.raises(UserError, match=r"special_tokens_map\.json is damaged") as error:
        hf_tokenizer.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("config", [None, {}, {"pad_token": "<|pad|>", "model_max_length": 4}])
def test_truncation_and_padding_of_a_training_are_left_out(tmp_path, config):
    plain = hf_tokenizer.load(byte_level_base(tmp_path / "plain"))
    folder = byte_level_base(tmp_path / "base")
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    saved.enable_truncation(4)
    saved.enable_padding(length=9)  # pads with [PAD], which is no token of this base
    saved.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    fast = hf_tokenizer.load(folder)
    assert len(fast) == len(plain) and fast.model_max_length == (config or {}).get("model_max_length", VERY_LARGE)
    text = write(tmp_path / "en.txt", english())
    rows = [fertility.table({"base": each}, {"en": text}, "en") for each in (plain, fast)]
    assert rows[0] == rows[1]
    out = extend(folder, tmp_path / "out", [write(tmp_path / "target.txt", target())], 40)
    content = json.loads((out / "tokenizer.json").read_text())
    assert content["truncation"] is None and content["padding"] is None
    assert TokenMap.load(out).source_vocab == len(plain)


@pytest.mark.parametrize("padding", [{}, 0])
def test_an_empty_padding_is_left_out(tmp_path, padding):
    """transformers must not read the file again: it fails on it."""
    folder = byte_level_base(tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    plain = hf_tokenizer.load(folder)
    (folder / "tokenizer.json").write_text(json.dumps({**content, "padding": padding}))
    (folder / "tokenizer_config.json").write_text("{}")
    assert hf_tokenizer.load(folder)("the house")["input_ids"] == plain("the house")["input_ids"]


@pytest.mark.parametrize(
    ("kind", "architecture", "own_class"),
    [("gpt2", "GPT2LMHeadModel", "GPT2TokenizerFast"), ("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXTokenizer")],
)
@pytest.mark.parametrize(("file", "settings"), [(False, {"add_prefix_space": True}), (True, {})])
def test_a_space_before_texts_is_what_transformers_takes_from_the_class(
    file, settings, kind, architecture, own_class, tmp_path
):
    """GPT-2's class replaces ``add_prefix_space`` of tokenizer.json, which had counted alone."""
    base = byte_level_base(tmp_path / "base")
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = file
    (base / "tokenizer.json").write_text(json.dumps(content))
    (base / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture]}))
    specials = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    for named in ({"tokenizer_class": own_class}, {}):
        (base / "tokenizer_config.json").write_text(json.dumps({**specials, **settings, **named}))
        ours, theirs = hf_tokenizer.load(base), AutoTokenizer.from_pretrained(str(base))
        assert all(ours(line)["input_ids"] == theirs(line)["input_ids"] for line in english(20))
    out = extend(base, tmp_path / "out", [write(tmp_path / "text.txt", target())], 20, keep_marks="false")
    (out / "config.json").write_text((base / "config.json").read_text())
    now = AutoTokenizer.from_pretrained(str(out))
    assert [now(line)["input_ids"] for line in english(20)] == [theirs(line)["input_ids"] for line in english(20)]


def test_a_damaged_added_tokens_json_beside_tokenizer_json_is_named(tmp_path):
    base = byte_level_base(tmp_path)
    (base / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (base / "added_tokens.json").write_text("{")
    with pytest.raises(UserError, match=r"added_tokens\.json is damaged"):
        hf_tokenizer.load(base)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"added_tokens_decoder": []}, "the tokenizer cannot be loaded"),
        ({"model_max_length": "x"}, "model_max_length='x' is not a number"),
    ],
)
def test_a_wrong_type_in_tokenizer_config_json_is_named(tmp_path, settings, says):
    base = byte_level_base(tmp_path)
    (base / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", **settings}))
    with pytest.raises(UserError, match=rf"tokenizer_config\.json: {says}"):
        hf_tokenizer.load(base)


@pytest.mark.parametrize(
    ("vocab", "says"), [({}, "has no tokens"), ({"a": 0, "b": 10**9}, "id 1000000000 is too large for 2 tokens")]
)
def test_a_vocabulary_that_no_table_can_have_is_refused(tmp_path, vocab, says):
    base = byte_level_base(tmp_path)
    content = json.loads((base / "tokenizer.json").read_text())
    content["model"] |= {"vocab": vocab, "merges": []}
    (base / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": []}))
    with pytest.raises(UserError, match=rf"tokenizer\.json.* {says}"):
        hf_tokenizer.load(base)
