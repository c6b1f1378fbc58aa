"""The tokenizer stage on small synthetic bases: ids, spellings, guard, methods, files, errors."""

import json
from collections import Counter

import pytest
import sentencepiece
from tokenizer_samples import byte_level_base, english, extend, lines, sentencepiece_base, target, write
from transformers import AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.tokenizer import select
from nemo_adapt.tokenizer.base import read
from nemo_adapt.tokenizer.encode import bare, encode_words
from nemo_adapt.tokenizer.stage import build
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

GUARDED = ["golden", "evening", "ruler", "level", "never", "eleven", "derive", "mode", "killer", "seven"]
KINDS = {"sentencepiece": sentencepiece_base, "byte_level": byte_level_base}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    return {"target": write(folder / "target.txt", target()), "en": write(folder / "en.txt", english())}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, text, tmp_path_factory):
    """A base folder and the folder of its extension by up to 150 tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    base = KINDS[request.param](folder / "base")
    parallel = {"xx": text["target"], "en": text["en"]}
    return base, extend(base, folder / "extended", [text["target"]], 150, parallel=parallel)


def ids(tokenizer, line):
    return tokenizer(line, add_special_tokens=False)["input_ids"]


def test_base_ids_stay_and_new_ids_follow(pair):
    base, extended = (hf_tokenizer.load(folder) for folder in pair)
    new = TokenMap.load(pair[1])
    assert new.source_vocab == len(base) and new.target_vocab == len(extended)
    before, after = base.get_vocab(), extended.get_vocab()
    assert {token: after[token] for token in before} == before
    assert {token.token: token.id for token in new.tokens} == {token: after[token] for token in after.keys() - before}
    assert len(new.tokens) > 60
    for role in ("bos_token", "eos_token", "pad_token"):
        assert getattr(base, role) == getattr(extended, role)


def of_a_model(base, out, text, rows, new_tokens):
    """Run the stage on a base tokenizer whose model has so many rows."""
    (base / "config.json").write_text(json.dumps({"vocab_size": rows}))
    config = Config()
    config.model.path, config.tokenizer.new_tokens = str(base), new_tokens
    out.mkdir()
    build(config, {"base": [base], "text": [text["target"]], "guard": []}, out)
    return TokenMap.load(out)


@pytest.mark.parametrize("new_tokens", [0, 20])
def test_a_special_token_for_which_the_model_has_no_row_gets_one(tmp_path, text, capsys, new_tokens):
    """Gemma 3 1B has 262,144 rows, and one for images as token 262,144."""
    base = byte_level_base(tmp_path / "base")
    before = hf_tokenizer.load(base)
    found = of_a_model(base, tmp_path / "out", text, len(before) - 1, new_tokens)
    assert found.source_vocab == len(before) - 1 and len(found.tokens) == new_tokens + 1
    first, after = found.tokens[0], hf_tokenizer.load(tmp_path / "out")
    assert (first.id, first.token, first.count) == (before.pad_token_id, "<|pad|>", 0)
    assert before.decode(first.source_ids) == "<|pad|>" and max(first.source_ids) < found.source_vocab
    assert {token.token: token.id for token in found.tokens}.items() <= after.get_vocab().items()
    assert "the model has no row for <|pad|> of its tokenizer" in capsys.readouterr().out


@pytest.mark.parametrize(("fewer", "new_tokens"), [(3, 0), (3, 20), (-20_000, 20)])
def test_a_model_without_a_row_for_text_is_not_the_tokenizer_s(tmp_path, text, fewer, new_tokens):
    base = byte_level_base(tmp_path / "base")
    with pytest.raises(UserError, match="do not belong together"):
        of_a_model(base, tmp_path / "out", text, len(hf_tokenizer.load(base)) - fewer, new_tokens)


def test_text_without_new_tokens_is_segmented_as_before(pair):
    base, extended = (hf_tokenizer.load(folder) for folder in pair)
    size, same = len(base), 0
    for line in [*english(), *target(50), "", "  two  spaces ", "<|endoftext|><s>the", "\t\n"]:
        now = extended(line)["input_ids"]
        if all(i < size for i in now):
            assert now == base(line)["input_ids"], line
            same += 1
        assert extended.decode(now, skip_special_tokens=True) == base.decode(
            base(line)["input_ids"], skip_special_tokens=True
        )
    assert same > 200


def test_transformers_loads_the_extended_folder(pair, tmp_path):
    ours = hf_tokenizer.load(pair[1])
    auto = AutoTokenizer.from_pretrained(str(pair[1]))
    assert auto.is_fast
    for name in ("tokenizer.json", "tokenizer_config.json"):  # as in a model folder
        (tmp_path / name).write_bytes((pair[1] / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    model = AutoTokenizer.from_pretrained(str(tmp_path))
    for line in [*target(80), *english(20), " a  b "]:
        assert auto(line)["input_ids"] == model(line)["input_ids"] == ours(line)["input_ids"]


def test_list_of_special_tokens_is_saved_for_transformers_4_and_5(text, tmp_path):
    """transformers 5 writes ``extra_special_tokens`` as a list, which transformers 4 cannot read."""
    base = byte_level_base(tmp_path / "base")
    fast = hf_tokenizer.load(base)
    fast.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    fast.save_pretrained(base)
    assert isinstance(json.loads((base / "tokenizer_config.json").read_text())["extra_special_tokens"], list)
    out = extend(base, tmp_path / "extended", [text["target"]], 20)
    assert "extra_special_tokens" not in json.loads((out / "tokenizer_config.json").read_text())
    auto = AutoTokenizer.from_pretrained(str(out))
    assert auto.all_special_tokens == AutoTokenizer.from_pretrained(str(base)).all_special_tokens
    assert {"<|user|>", "<|end|>"} <= set(auto.all_special_tokens)


def test_token_map_spells_new_tokens_with_base_pieces(pair):
    base = hf_tokenizer.load(pair[0])
    model = bare(read(pair[0]).content)
    for token in TokenMap.load(pair[1]).tokens:
        assert token.source_ids and max(token.source_ids) < len(base)
        assert token.bytes == len(token.text.encode()) or "\ufffd" in token.text
        assert token.count >= 0
        if "\ufffd" not in token.text:
            # after another token, so that the decoder does not strip a leading space as the dummy prefix
            anchor = ids(base, "the")
            assert base.decode(anchor + token.source_ids) == "the" + token.text
        assert token.source_ids == model.encode(token.token).ids


def test_every_new_token_is_reachable(pair):
    extended = read(pair[1])
    new = TokenMap.load(pair[1]).tokens
    own = encode_words(bare(extended.content), [token.token for token in new]).lists()
    assert [token.id for token, found in zip(new, own, strict=True) if not token.count and found != [token.id]] == []
    learned = json.loads((pair[1] / "learn.json").read_text())
    assert learned["unreachable"]["left"] == 0 and learned["added"] == len(new)
    assert learned["lines_unlike_sentencepiece"] == 0


def test_text_that_spells_special_tokens_is_measured_as_text(tmp_path):
    """As in training and scoring."""
    content = ["<s> the level </s>", *target(80)]
    odd = write(tmp_path / "odd.txt", content)
    out = extend(sentencepiece_base(tmp_path / "base"), tmp_path / "out", [odd], 20, parallel={"xx": odd})
    row = json.loads((out / "fertility.json").read_text())[1]
    assert row["tokens"] == sum(map(len, documents.encode(hf_tokenizer.load(out), content)))
    assert json.loads((out / "learn.json").read_text())["lines_unlike_sentencepiece"] == 0


def test_lines_with_other_ids_than_those_of_sentencepiece_are_printed(tmp_path, capsys):
    options = {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True}
    odd = write(tmp_path / "odd.txt", [*target(80), "a\u0301\u0323\u0330"])  # NFKC sorts the marks
    out = extend(sentencepiece_base(tmp_path / "base", **options), tmp_path / "out", [odd], 20)
    assert json.loads((out / "learn.json").read_text())["lines_unlike_sentencepiece"] == 1
    assert "1 of the first 2,000 lines of text get other ids than sentencepiece gives them" in capsys.readouterr().out


def test_fertility_has_a_row_for_each_tokenizer_and_text(pair):
    rows = {(row["tokenizer"], row["language"]): row for row in json.loads((pair[1] / "fertility.json").read_text())}
    assert set(rows) == {(name, language) for name in ("base", "extended") for language in ("xx", "en")}
    assert rows["base", "en"]["tokens_vs_reference"] == 1.0
    row, fast = rows["extended", "xx"], hf_tokenizer.load(pair[1])
    assert row["tokens"] == sum(len(ids(fast, line)) for line in target())
    assert row["words"] == sum(len(line.split()) for line in target()) and row["sentences"] == 600
    assert row["bytes"] == sum(len(line.encode()) for line in target()) and row["text"] == "target.txt"
    assert row["tokens"] < 0.5 * rows["base", "xx"]["tokens"]


def test_sentencepiece_reads_the_extended_model(text, tmp_path):
    out = extend(sentencepiece_base(tmp_path / "base"), tmp_path / "out", [text["target"]], 100)
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    fast = hf_tokenizer.load(out)
    assert model.vocab_size() == len(fast)
    for line in [*target(), *english(), "   ev  çiçekler   ", "", "😀 घर"]:
        assert ids(fast, line) == model.encode(line)
        assert fast.decode(model.encode(line)) == model.decode(model.encode(line))


def test_added_tokens_beyond_the_model_keep_their_ids(text, tmp_path):
    base = sentencepiece_base(tmp_path / "base")
    fast = hf_tokenizer.load(base)
    fast.add_special_tokens({"pad_token": "<pad>"})
    fast.add_tokens(["<tool>"])
    fast.chat_template = "{{ messages }}"
    fast.save_pretrained(base)
    out = extend(base, tmp_path / "out", [text["target"]], 60)
    again = AutoTokenizer.from_pretrained(str(out))
    size = len(fast)
    assert TokenMap.load(out).source_vocab == size == 352
    assert again.convert_tokens_to_ids(["<pad>", "<tool>"]) == [350, 351]
    assert again.chat_template == "{{ messages }}" and again.pad_token == "<pad>"
    assert 351 in again("the <tool> evler")["input_ids"] and max(again("evler çiçekler")["input_ids"]) >= size
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    assert [ids(again, line) for line in target(60)] == [model.encode(line) for line in target(60)]


def test_sentencepiece_json_without_its_model_can_be_extended(text, tmp_path):
    base = sentencepiece_base(tmp_path / "base")
    hf_tokenizer.load(base).save_pretrained(tmp_path / "json")
    (tmp_path / "json" / "tokenizer.model").unlink(missing_ok=True)
    out = extend(tmp_path / "json", tmp_path / "out", [text["target"]], 60)
    assert json.loads((out / "learn.json").read_text())["added"] == 60
    assert not (out / "tokenizer.model").exists()


def test_pre_tokenizer_and_ignore_merges_of_a_byte_level_base_are_kept(text, tmp_path):
    base = byte_level_base(tmp_path / "base")
    content = json.loads((base / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": r" ?[\p{L}\p{M}]+|\p{N}{1,3}|\s+|."}, "behavior": "Isolated"}
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{**split, "invert": False}, bytes_only]}
    content["model"]["ignore_merges"] = True  # as Llama-3
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]  # as older files
    (base / "tokenizer.json").write_text(json.dumps(content))
    out = extend(base, tmp_path / "out", [text["target"]], 150)
    saved = json.loads((out / "tokenizer.json").read_text())
    assert saved["pre_tokenizer"] == content["pre_tokenizer"] and saved["model"]["ignore_merges"]
    assert [token["id"] for token in saved["added_tokens"]] == [token["id"] for token in content["added_tokens"]]
    fast = AutoTokenizer.from_pretrained(str(out))
    assert fast.tokenize("क्षेत्र123") == [*fast.tokenize("क्षेत्र"), *fast.tokenize("123")]
    assert any(token.text == " क्षेत्र" for token in TokenMap.load(out).tokens)


def test_no_new_tokens_saves_the_base(tmp_path):
    for name, make in KINDS.items():
        base = make(tmp_path / name)
        out = extend(base, tmp_path / f"{name}_out", [], 0)
        assert TokenMap.load(out).tokens == []
        before, after = hf_tokenizer.load(base), AutoTokenizer.from_pretrained(str(out))
        assert len(before) == len(after)
        assert [before(line)["input_ids"] for line in english(40)] == [after(line)["input_ids"] for line in english(40)]


@pytest.mark.parametrize("kind", KINDS)
def test_guard_limit_is_kept_and_dropped_tokens_are_replaced(kind, text, tmp_path):
    base = KINDS[kind](tmp_path / "base")
    held_words = lines(GUARDED, ["", "s", "."], 300, seed=3)
    guarded = write(tmp_path / "guard.txt", held_words)
    texts = [text["target"], guarded]  # also learned from, so that many new tokens change it
    outs = [
        extend(base, tmp_path / str(share), texts, 120, guard=[guarded], guard_share=share)
        for share in (1.0, 0.01, 0.0)
    ]
    source = hf_tokenizer.load(base)
    shares = []
    for out in outs:
        extended = hf_tokenizer.load(out)
        total = sum(len(ids(source, line)) for line in held_words)
        changed = [Counter(ids(source, line)) - Counter(ids(extended, line)) for line in held_words]
        shares.append(sum(count.total() for count in changed) / total)
        report = json.loads((out / "learn.json").read_text())["guard"]
        assert report["tokens"] == total and report["changed_after"] / total == pytest.approx(shares[-1], abs=0.01)
    assert shares[0] > 0.3 and shares[1] <= 0.01 and shares[2] == 0.0
    held = outs[1]
    report = json.loads((held / "learn.json").read_text())
    assert report["added"] == 120 and report["guard"]["changed_before"] > report["guard"]["changed_after"]


def test_more_are_learned_as_long_as_too_few_can_be_kept(text, tmp_path, monkeypatch, capsys):
    """As soon as the guard dropped more than there were to spare, the text was said to support no more."""
    for name, value in {"MIN_SPARE": 2, "SPARE_SHARE": 0.0, "MAX_LEARNINGS": 1}.items():
        monkeypatch.setattr(select, name, value)
    guarded = write(tmp_path / "guard.txt", lines(GUARDED, ["", "s", "."], 300, seed=3))
    base = sentencepiece_base(tmp_path / "base")
    out = extend(base, tmp_path / "out", [text["target"], guarded], 100, guard=[guarded], guard_share=0.01)
    said = capsys.readouterr().out
    assert json.loads((out / "learn.json").read_text())["added"] == 100, said
    assert "learning again with 8 to spare, as too few of 102 can be kept: " in said and "asked for" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_union_adds_pieces_that_the_base_lacks(kind, text, tmp_path):
    base = KINDS[kind](tmp_path / "base")
    out = extend(base, tmp_path / "union", [text["target"]], 400 if kind == "byte_level" else 120, method="union")
    new = TokenMap.load(out)
    assert 0 < len(new.tokens) < 400
    before = hf_tokenizer.load(base)
    assert all(token.token not in before.get_vocab() for token in new.tokens)
    same = extend(base, tmp_path / "continue", [text["target"]], len(new.tokens))

    def tokens(folder):
        tokenizer = hf_tokenizer.load(folder)
        return sum(len(ids(tokenizer, line)) for line in target())

    assert tokens(same) <= tokens(out) < tokens(base)


def test_fewer_tokens_than_asked_for_are_reported(text, tmp_path, capsys):
    out = extend(sentencepiece_base(tmp_path / "base"), tmp_path / "out", [text["target"]], 50_000)
    added = json.loads((out / "learn.json").read_text())["added"]
    assert added == len(TokenMap.load(out).tokens) < 50_000
    assert f"{added:,} of the 50,000 new tokens asked for: the text supports no more" in capsys.readouterr().out


def test_progress_shows_what_is_learned(text, tmp_path, capsys):
    base = sentencepiece_base(tmp_path / "base")
    extend(base, tmp_path / "few", [write(tmp_path / "few.txt", ["evler evler evlerde"])], 200)
    said = capsys.readouterr().out
    assert "learning 200 tokens and 100 to spare: " in said and "300/300" not in said
    guarded = write(tmp_path / "guard.txt", lines(GUARDED, ["", "s", "."], 300, seed=3))
    extend(base, tmp_path / "again", [text["target"], guarded], 120, guard=[guarded], guard_share=0.0)
    titles = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("learning")]
    assert titles[0] == "learning 120 tokens and 100 to spare" and len(titles) == len(set(titles)) > 1
    assert titles[1].startswith("learning again with ") and titles[1].endswith(" for the guard text")
    extend(byte_level_base(tmp_path / "bytes"), tmp_path / "marks", [text["target"]], 20)
    said = capsys.readouterr().out
    assert "trying tokenizer.keep_marks=false: " in said and "trying tokenizer.keep_marks=true: " in said


def test_bad_input_raises_one_line_errors(text, tmp_path):
    base = sentencepiece_base(tmp_path / "base")

    def message(base=base, files=(), count=0, **settings):
        with pytest.raises(UserError) as error:
            extend(base, tmp_path / f"out{count}", list(files), 10, **settings)
        assert "\n" not in str(error.value)
        return str(error.value)

    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    assert "tokenizer.text names no file" in message(count=1)
    assert "empty.txt" in message(files=[empty], count=2)
    assert "continue" in message(files=[text["target"]], method="continu", count=3)
    word_piece = tmp_path / "tokenizer.json"
    model = {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}
    word_piece.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": {**model, "vocab": {"a": 0}}}))
    assert "WordPiece" in message(base=word_piece, files=[text["target"]], count=4)
    assert "union" in message(files=[text["target"]], method="union", count=5)  # 10 pieces do not hold the alphabet


def test_union_learns_from_documents_of_any_length(tmp_path):
    """sentencepiece's trainer skips lines of more than 4,192 bytes: most documents of a web corpus."""
    found = []
    for name, content in {"short": target(), "long": [" ".join(target())]}.items():
        base = sentencepiece_base(tmp_path / name)
        folder = extend(base, tmp_path / f"{name}_tr", [write(tmp_path / f"{name}.txt", content)], 100, method="union")
        found.append([token.token for token in TokenMap.load(folder).tokens])
    assert found[0] == found[1] and len(found[0]) > 20


@pytest.mark.parametrize(
    ("rows", "new_tokens", "says"),
    [
        (349, 40, "has 350 tokens, but the model has only 349 rows"),
        (349, 0, "has 350 tokens, but the model has only 349 rows"),
        (9000, 40, "9,000 rows, 8,650 more than tokens"),
        (9000, 0, ""),  # all rows are kept
        (352, 40, ""),
    ],
)
def test_a_tokenizer_that_is_not_the_models_is_refused_before_it_is_extended(tmp_path, text, rows, new_tokens, says):
    base = sentencepiece_base(tmp_path / "model")
    (base / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": rows}))
    config, inputs = Config(), {"base": [base], "text": [text["target"]]}
    config.model.path, config.tokenizer.new_tokens = str(base), new_tokens
    out = tmp_path / "out"
    out.mkdir()
    if not says:
        build(config, inputs, out)
        return
    with pytest.raises(UserError, match=says):
        build(config, inputs, out)
    assert not list(out.iterdir())
