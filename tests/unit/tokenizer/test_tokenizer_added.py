"""Added tokens beside a SentencePiece model without a tokenizer.json keep their ids, or are refused."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizer_samples import DATA, extend, needs_data, sentencepiece_base, target, write
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.tokens.token_map import TokenMap

UNIGRAM = {"model_type": "unigram", "hard_vocab_limit": False}
START, END, TOOL = "<|im_start|>", "<|im_end|>", "<tool>"
LINE = "Once <s>a <|im_start|>upon a <tool>time<|im_end|>"


def decoder(*tokens: tuple[int, str, bool]) -> dict[str, object]:
    """``added_tokens_decoder`` as transformers 4 writes it for Llama, whose own tokens are ``normalized``."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    llama = [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True)]
    return {str(i): {"content": name, **flags, "special": special} for i, name, special in [*llama, *tokens]}


def folder_with(base: Path, **files: object) -> Path:
    """``base`` with further JSON files."""
    for name, content in files.items():
        (base / f"{name}.json").write_text(json.dumps(content))
    return base


def files_of(size: int) -> dict[str, dict[str, object]]:
    """The ways to store added tokens that follow ``size`` pieces."""
    named = {"additional_special_tokens": [START, END], "pad_token": END}
    numbered = decoder((size, START, True), (size + 1, END, True), (size + 2, TOOL, False))
    return {
        "list": {"added_tokens": {START: size, END: size + 1, TOOL: size + 2}, "special_tokens_map": named},
        "decoder": {"tokenizer_config": {"added_tokens_decoder": numbered, **named}},
        "both": {
            "added_tokens": {TOOL: size + 2, START: size},
            "tokenizer_config": {"added_tokens_decoder": {i: numbered[i] for i in numbered if i != str(size + 2)}},
            "special_tokens_map": named,
        },
    }


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("way", files_of(0))
def test_added_tokens_of_a_model_folder_keep_their_ids(tmp_path, way):
    base = shutil.copytree(DATA / "weights/stories260K", tmp_path / "base")
    folder_with(base, **files_of(512)[way])
    out = extend(base, tmp_path / "out", [write(tmp_path / "target.txt", target())], 40)
    before, after = AutoTokenizer.from_pretrained(str(base)), AutoTokenizer.from_pretrained(str(out))
    new = TokenMap.load(out)
    for name, i in ((START, 512), (END, 513), (TOOL, 514)):
        assert after.convert_tokens_to_ids(name) == i
        assert way == "both" or before.convert_tokens_to_ids(name) == i  # transformers reads only one of two files
    assert new.source_vocab == 515 and len(new.tokens) == 40
    assert max(after.get_vocab().values()) == new.target_vocab - 1
    ours = hf_tokenizer.load(base)
    assert ours(LINE)["input_ids"] == after(LINE)["input_ids"]
    assert set(ours(LINE)["input_ids"]) >= {1, 512, 513, 514}
    shown = after.decode(after(LINE)["input_ids"], skip_special_tokens=True)
    assert TOOL in shown and START not in shown


@pytest.mark.parametrize("kind", [{}, UNIGRAM], ids=["bpe", "unigram"])
@pytest.mark.parametrize("way", files_of(0))
def test_added_tokens_are_pieces_of_the_extended_model(tmp_path, kind, way):
    base = sentencepiece_base(tmp_path / "base", **kind)
    size = len(hf_tokenizer.load(base))
    folder_with(base, **files_of(size)[way])
    out = extend(base, tmp_path / "out", [write(tmp_path / "target.txt", target())], 40)
    pieces = hf_tokenizer.read_sentencepiece(out / "tokenizer.model").pieces
    assert [piece.piece for piece in pieces[size : size + 3]] == [START, END, TOOL]
    kinds = [hf_tokenizer.CONTROL, hf_tokenizer.CONTROL, hf_tokenizer.USER_DEFINED]
    assert [piece.type for piece in pieces[size : size + 3]] == kinds
    learned = json.loads((out / "learn.json").read_text())
    assert TokenMap.load(out).source_vocab == size + 3 and learned["lines_unlike_sentencepiece"] == 0
    assert way == "both" or hf_tokenizer.load(out).pad_token_id == size + 1  # as transformers reads the files


def test_special_tokens_without_an_id_get_the_next_ones(tmp_path):
    base = folder_with(sentencepiece_base(tmp_path / "base"), special_tokens_map={"mask_token": "<mask>"})
    folder_with(base, tokenizer_config={"additional_special_tokens": ["<x>"], "pad_token": "<pad>"})
    before = hf_tokenizer.load(base)
    names = ["<mask>", "<x>", "<pad>"]
    assert sorted(before.convert_tokens_to_ids(names)) == [350, 351, 352]
    out = extend(base, tmp_path / "out", [write(tmp_path / "target.txt", target())], 40)
    after = AutoTokenizer.from_pretrained(str(out))
    assert after.convert_tokens_to_ids(names) == before.convert_tokens_to_ids(names)
    assert max(after.get_vocab().values()) == TokenMap.load(out).target_vocab - 1


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"added_tokens": {START: 350, END: 352}}, "no token has id 351, but the added token '<|im_end|>' has id 352"),
        ({"added_tokens": {START: 5}}, "'<|im_start|>' with id 5 contradicts tokenizer.model"),
        ({"added_tokens": {"<s>": 350}}, "'<s>' with id 350 contradicts tokenizer.model"),
        ({"added_tokens": {START: 350, END: 350}}, "added_tokens.json: id 350 of the added token '<|im_end|>'"),
        (
            {
                "added_tokens": {START: 351},
                "tokenizer_config": {"added_tokens_decoder": decoder((350, START, True))},
            },
            "added_tokens.json: id 351 of the added token '<|im_start|>' contradicts",
        ),
        ({"added_tokens": {START: "350"}}, "added_tokens.json is damaged: not a map from tokens to ids"),
        ({"added_tokens": [START]}, "added_tokens.json is damaged"),
        (
            {"tokenizer_config": {"added_tokens_decoder": {"350": START}}},
            "tokenizer_config.json is damaged: added_tokens_decoder is not a map",
        ),
        ({"special_tokens_map": [START]}, "special_tokens_map.json is damaged"),
    ],
)
def test_ids_that_contradict_each_other_are_refused(tmp_path, files, says):
    base = folder_with(sentencepiece_base(tmp_path / "base"), **files)
    with pytest.raises(UserError) as error:
        hf_tokenizer.load(base)
    assert says in str(error.value) and "\n" not in str(error.value)
