"""Text that spells a special token of a Unigram base stays text."""

import json
from array import array

import sentencepiece
from test_tokenizer_kinds import UNIGRAM, xglm_folder
from tokenizer_samples import english, extend, sentencepiece_base, target, write
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.data.encode import Encoder
from nemo_adapt.data.stage import rule_of
from nemo_adapt.tokens import documents

SPELLED = ["the </s> house <s> old", "<s>", "<<s>></s></s>", "the<unk>house"]


def check_stays_text(folder):
    """No spelled special token becomes one, in the data stage too, and transformers gives the same ids."""
    ours, theirs = hf_tokenizer.load(folder), AutoTokenizer.from_pretrained(str(folder))
    ends = {ours.bos_token_id, ours.eos_token_id}
    assert ends == {ours.convert_tokens_to_ids(name) for name in ("<s>", "</s>")}
    rule = rule_of(folder)
    for text, ids in zip(SPELLED, documents.encode(ours, SPELLED), strict=True):
        assert not ends & set(ids)
        assert array(rule.typecode, Encoder(rule).encode([text])[0]).tolist() == [*rule.prefix, *ids, rule.end]
    assert documents.encode(theirs, SPELLED) == documents.encode(ours, SPELLED)
    lines = [*english(50), *target(50), *SPELLED]
    assert theirs(lines)["input_ids"] == ours(lines)["input_ids"]


def test_of_a_model_in_which_a_character_of_theirs_has_no_piece(tmp_path):
    base = sentencepiece_base(tmp_path / "base", **UNIGRAM)
    tokenizer = hf_tokenizer.load(base)
    assert tokenizer.convert_tokens_to_ids("<") == tokenizer.unk_token_id
    assert not {1, 2} & {i for ids in documents.encode(tokenizer, SPELLED) for i in ids}
    model = sentencepiece.SentencePieceProcessor(model_file=str(base / "tokenizer.model"))
    lines = [*english(), *target(), "a < b / c > d <3 <</s"]
    assert documents.encode(tokenizer, lines) == [model.encode(line) for line in lines]
    check_stays_text(extend(base, tmp_path / "out", [write(tmp_path / "a.txt", target())], 50))


def test_of_a_json_in_which_they_have_a_score_of_zero(tmp_path):
    base = xglm_folder(tmp_path / "xglm")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "tokenizer_class": "TokenizersBackend"}
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer, raw = hf_tokenizer.load(base), Tokenizer.from_file(str(base / "tokenizer.json"))
    assert not {0, 2} & {i for ids in documents.encode(tokenizer, SPELLED) for i in ids}
    lines = [*english(), *target(), "a < b / c > d", "the </s> house"]
    assert tokenizer(lines)["input_ids"] == [raw.encode(line).ids for line in lines]  # as special tokens, if wanted
    out = extend(base, tmp_path / "out", [write(tmp_path / "a.txt", target())], 50)
    check_stays_text(out)
    splits = [json.loads(hf_tokenizer.load(each).backend_tokenizer.to_str())["pre_tokenizer"] for each in (base, out)]
    assert splits[0] == splits[1]  # loading again adds no second one


def test_a_json_whose_special_tokens_lose_against_their_characters_is_loaded_unchanged(tmp_path):
    base = sentencepiece_base(tmp_path / "base", **{**UNIGRAM, "vocab_size": 61}, required_chars="<>/unks")
    content = json.loads(hf_tokenizer.load(base).backend_tokenizer.to_str())
    assert content["pre_tokenizer"] is None
    assert not {1, 2} & {i for ids in documents.encode(hf_tokenizer.load(base), SPELLED) for i in ids}
