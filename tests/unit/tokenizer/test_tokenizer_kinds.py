"""Bases as other models ship them: T5's and XGLM's file names and ids, GPT-2 with a prefix space, Gemma's JSON."""

import json
import shutil

import pytest
from tokenizer_samples import byte_level_base, english, extend, sentencepiece_base, target, write
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.tokenizer.base import read
from nemo_adapt.tokens.token_map import TokenMap

UNIGRAM = {"model_type": "unigram", "vocab_size": 58, "byte_fallback": False}
FAIRSEQ_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def xglm_folder(folder, alone=False):
    """A folder like XGLM's: the model's pieces from id 4 on, then made-up words."""
    base = sentencepiece_base(folder, **UNIGRAM)
    content = json.loads(hf_tokenizer.load(base).backend_tokenizer.to_str())
    pieces = [*([name, 0.0] for name in FAIRSEQ_SPECIALS), *content["model"]["vocab"][3:]]
    pieces += [[f"<madeupword{i}>", 0.0] for i in range(7)]
    content["model"] |= {"vocab": pieces, "unk_id": 3}
    blank = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = [*enumerate(FAIRSEQ_SPECIALS), *((len(pieces) - 7 + i, f"<madeupword{i}>") for i in range(7))]
    content["added_tokens"] = [{"id": i, "content": name, **blank} for i, name in names]
    content["post_processor"] = None
    (base / "tokenizer.model").rename(base / "sentencepiece.bpe.model")
    if not alone:
        Tokenizer.from_str(json.dumps(content)).save(str(base / "tokenizer.json"))
    return base


def check_extended(base, out, count):
    """Ids of text without new tokens stay, texts round-trip, ``count`` new tokens exist and shorten the text."""
    before, after = hf_tokenizer.load(base), AutoTokenizer.from_pretrained(str(out))
    new = TokenMap.load(out)
    assert len(new.tokens) == count and new.source_vocab == len(before) and len(after) == len(before) + count
    size, lines = len(before), [*english(100), *target(200)]
    saved = 0
    for line in lines:
        old, now = (tokenizer(line, add_special_tokens=False)["input_ids"] for tokenizer in (before, after))
        assert old == now or max(now) >= size
        if before.unk_token_id is None or before.unk_token_id not in old:
            assert after.decode(now) == before.decode(old)
        saved += len(old) - len(now)
    assert saved > 1000
    for token in new.tokens:
        if before.unk_token_id not in token.source_ids:
            assert before.decode(token.source_ids).strip() == token.text.strip()


def test_t5_file_name_of_the_model_is_recognised(tmp_path):
    base = sentencepiece_base(tmp_path / "base", **UNIGRAM)
    shutil.copytree(base, tmp_path / "t5")
    (tmp_path / "t5/tokenizer.model").rename(tmp_path / "t5/spiece.model")
    corpus = write(tmp_path / "a.txt", target())
    outs = [extend(folder, tmp_path / f"{folder.name}_out", [corpus], 50) for folder in (base, tmp_path / "t5")]
    assert (outs[0] / "tokenizer.model").read_bytes() == (outs[1] / "tokenizer.model").read_bytes()
    check_extended(base, outs[1], 50)


def test_xglm_ids_are_those_of_its_json(tmp_path):
    base = xglm_folder(tmp_path / "xglm")
    out = extend(base, tmp_path / "out", [write(tmp_path / "a.txt", target())], 50)
    assert not (out / "tokenizer.model").exists()  # its ids could not be those of the tokenizer
    check_extended(base, out, 50)
    assert hf_tokenizer.load(out).convert_tokens_to_ids("<madeupword6>") == len(hf_tokenizer.load(base)) - 1


def test_xglm_model_without_its_json_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"sentencepiece\.bpe\.model: .*save_pretrained"):
        hf_tokenizer.load(xglm_folder(tmp_path / "xglm", alone=True))


def test_byte_level_base_with_a_prefix_space_is_extended(tmp_path):
    base = byte_level_base(tmp_path / "base")
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    (base / "tokenizer.json").write_text(json.dumps(content))
    assert hf_tokenizer.load(base)("the house")["input_ids"] == hf_tokenizer.load(base)(" the house")["input_ids"]
    out = extend(base, tmp_path / "out", [write(tmp_path / "a.txt", target())], 60)
    assert json.loads((out / "learn.json").read_text())["keep_marks"]["kept"] is False
    check_extended(base, out, 60)


def test_gemma_json_is_extended(tmp_path):
    """Gemma has no dummy prefix, splits nothing, and has runs of spaces and <unused> tokens in its vocabulary."""
    base = sentencepiece_base(tmp_path / "base", add_dummy_prefix=False, user_defined_symbols=["<unused0>", "▁▁"])
    hf_tokenizer.load(base).save_pretrained(tmp_path / "gemma")
    (tmp_path / "gemma/tokenizer.model").unlink(missing_ok=True)
    out = extend(tmp_path / "gemma", tmp_path / "out", [write(tmp_path / "a.txt", target())], 60)
    check_extended(tmp_path / "gemma", out, 60)
    after = hf_tokenizer.load(out)
    assert after.decode(after("a  b\n  çiçek", add_special_tokens=False)["input_ids"]) == "a  b\n  çiçek"


@pytest.mark.parametrize("hole", ["in the middle", "before the last", "before a special token"])
def test_a_base_with_unused_ids_is_extended(tmp_path, hole):
    base = byte_level_base(tmp_path / "base")
    content = json.loads((base / "tokenizer.json").read_text())
    vocab, added = content["model"]["vocab"], content["added_tokens"]
    first = {"in the middle": 280, "before the last": max(vocab.values()), "before a special token": 10**6}[hole]
    vocab = {token: i + 3 * (i >= first) for token, i in vocab.items()}
    named = next(token for token, i in vocab.items() if i > 257)
    vocab[f"<unused{first}>"] = vocab.pop(named)  # a name of that kind may be another id's
    merges = [pair for pair in content["model"]["merges"] if named not in (*pair, "".join(pair))]
    content["model"] |= {"vocab": vocab, "merges": merges}
    for token in added:
        token["id"] = vocab[token["content"]] = max(vocab.values()) + 1 + 3 * (first == 10**6)
    (base / "tokenizer.json").write_text(json.dumps(content))
    size = max(hf_tokenizer.load(base).get_vocab().values()) + 1
    out = extend(base, tmp_path / "out", [write(tmp_path / "a.txt", target())], 60)
    before, after, new = hf_tokenizer.load(base), hf_tokenizer.load(out), TokenMap.load(out)
    assert new.source_vocab == size and [token.id for token in new.tokens] == list(range(size, size + 60))
    assert all(after.get_vocab()[token] == i for token, i in before.get_vocab().items())
    assert all(after.convert_tokens_to_ids(token.token) == token.id for token in new.tokens)
    for line in english(50):
        assert before(line)["input_ids"] == after(line)["input_ids"]


@pytest.mark.parametrize("fused", [False, True])
def test_a_bpe_with_an_unknown_token_is_extended(tmp_path, fused):
    """Unknown characters in a row are one unknown token, or one each."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=fused))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["[UNK]", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(english(), trainer)
    (tmp_path / "base").mkdir()
    tokenizer.save(str(tmp_path / "base/tokenizer.json"))
    assert (len(tokenizer.encode("घर").ids) == 3) is not fused
    out = extend(tmp_path / "base", tmp_path / "out", [write(tmp_path / "a.txt", target())], 50)
    after = hf_tokenizer.load(out)
    assert len(TokenMap.load(out).tokens) == 50 and after.decode(after("घर")["input_ids"]) == "घर"


def test_a_byte_level_bpe_with_a_further_split_is_refused_as_such(tmp_path):
    base = byte_level_base(tmp_path)
    content = json.loads((base / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [content["pre_tokenizer"], digits]}
    (base / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"splits words again after ByteLevel \(Digits\)"):
        read(base)


def test_an_empty_sequence_splits_nothing(tmp_path):
    base = sentencepiece_base(tmp_path / "base")
    hf_tokenizer.load(base).save_pretrained(tmp_path / "json")
    content = json.loads((tmp_path / "json/tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": []}
    (tmp_path / "json/tokenizer.json").write_text(json.dumps(content))
    assert not read(tmp_path / "json").byte_level


def test_a_byte_level_unigram_is_refused_as_such(tmp_path):
    base = xglm_folder(tmp_path / "xglm")
    content = json.loads((base / "tokenizer.json").read_text())
    content["pre_tokenizer"] = json.loads((byte_level_base(tmp_path) / "tokenizer.json").read_text())["pre_tokenizer"]
    (base / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="byte-level Unigram"):
        read(base)
