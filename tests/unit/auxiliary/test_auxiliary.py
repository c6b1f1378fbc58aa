"""Auxiliary inputs of strategies, from a small text: compared with plain counting, reproducible, and their errors."""

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as torch_save_file
from unit.tokenizer.tokenizer_samples import byte_level_base, english, extend, sentencepiece_base, target, write

from nemo_adapt import hf_tokenizer, pipeline
from nemo_adapt.auxiliary import bilingual, overlaps, stage, vectors
from nemo_adapt.checkpoint import tables
from nemo_adapt.config import Config, recipes
from nemo_adapt.corpora.sample import drawn
from nemo_adapt.errors import UserError
from nemo_adapt.run import reads, steps
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

needs_gensim = pytest.mark.skipif(importlib.util.find_spec("gensim") is None, reason="gensim is not installed")
BASES = {"sentencepiece": sentencepiece_base, "byte_level": byte_level_base}


@pytest.fixture(scope="module", params=BASES)
def made(request, tmp_path_factory):
    """Inputs of the stage: a small base, its extension, target and source text."""
    folder = tmp_path_factory.mktemp(request.param)
    base = BASES[request.param](folder / "base")
    text = write(folder / "target.txt", target(300))
    tokenizer = extend(base, folder / "extended", [text], 80)
    return {
        "base": [base],
        "tokenizer": [tokenizer],
        "text": [text],
        "source_text": [write(folder / "en.txt", english())],
    }


def build(kind, inputs, place, **settings_):
    config = Config()
    config.auxiliary.dims, config.auxiliary.min_count, config.auxiliary.buckets = 8, 2, 500
    for key, value in settings_.items():
        setattr(config.auxiliary, key, value)
    out = place / f"{kind}.partial"
    out.mkdir(parents=True)
    stage.build(config, inputs, out)
    return dict(np.load(out / f"{kind}.npz", allow_pickle=False))


@pytest.mark.parametrize("kind", ["overlaps", pytest.param("vectors", marks=needs_gensim)])
def test_a_sample_of_the_text_may_be_read(made, tmp_path, kind):
    found = build(kind, made, tmp_path / "sampled", sample_documents=100, seed=7)
    sampled = drawn("", made["text"], "text", 100, 7, tmp_path / "sample.jsonl.zst")
    same = build(kind, {**made, "text": sampled}, tmp_path / "same", seed=7)
    whole = build(kind, made, tmp_path / "whole", seed=7)
    assert all((found[key] == same[key]).all() for key in same)
    assert any(found[key].shape != whole[key].shape or (found[key] != whole[key]).any() for key in whole)
    assert [each.name for each in (tmp_path / "sampled" / f"{kind}.partial").iterdir()] == [f"{kind}.npz"]


@pytest.mark.parametrize("strategy", ["align", "focus"])
def test_only_a_sample_that_is_read_decides_the_result(strategy):
    """Results of earlier versions, which read all, stay valid."""

    def decided(*words):
        config = recipes.load("blank", ["run.name=r", "model.path=m", f"resize.input={strategy}", *words])
        (step,) = (step for step in pipeline.steps_of(config) if step.name == "auxiliary")
        return steps._deciding(config, step)

    name = "auxiliary.sample_documents"
    assert "sample_documents" not in str(decided())
    assert decided(f"{name}=9")[name] == {name: 9, "auxiliary.seed": 1234}


def test_piece_bytes_add_up_to_those_of_the_text(made, tmp_path):
    base = hf_tokenizer.load(made["base"][0])
    found = build("piece_bytes", made, tmp_path)["bytes"]
    assert len(found) == TokenMap.load(made["tokenizer"][0]).source_vocab
    for line in target(20):
        ids = base(line, add_special_tokens=False)["input_ids"]
        assert found[ids].sum() == len(line.encode()) + documents.added_bytes(base)


def spans(ids, sizes):
    """(id, first byte, end) of each token."""
    at, found = 0, []
    for token in ids:
        found.append((token, at, at + sizes[token]))
        at += sizes[token]
    return found


def test_overlaps_equal_those_counted_span_by_span(made, tmp_path):
    base, extended = (hf_tokenizer.load(made[side][0]) for side in ("base", "tokenizer"))
    vocab = TokenMap.load(made["tokenizer"][0]).source_vocab
    lengths = [documents.token_bytes(tokenizer) for tokenizer in (base, extended)]
    expected = {}
    for line in made["text"][0].read_text(encoding="utf-8").splitlines():
        under, over = (
            spans(tokenizer(line, add_special_tokens=False)["input_ids"], sizes)
            for tokenizer, sizes in zip((base, extended), lengths, strict=True)
        )
        for token, start, end in over:
            for piece, first, last in under if token >= vocab else ():
                shared = min(end, last) - max(start, first)
                if shared > 0:
                    count, size = expected.get((token - vocab, piece), (0, 0))
                    expected[token - vocab, piece] = (count + 1, size + shared)
    found = build("overlaps", made, tmp_path)
    columns = [found[name].tolist() for name in ("new", "piece", "count", "bytes")]
    got = {(new, piece): (count, size) for new, piece, count, size in zip(*columns, strict=True)}
    assert got == expected and len(got) > 100
    assert list(got) == sorted(got)


@settings(max_examples=50)
@given(
    one=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=20),
    other=st.lists(st.tuples(st.integers(0, 14), st.integers(0, 4)), max_size=20),
)
def test_overlaps_of_two_tokenizations_equal_those_counted_by_byte(one, other):
    """Tokens of no bytes overlap with nothing, wherever they are."""
    missing = sum(size for _, size in one) - sum(size for _, size in other)
    one, other = one + [(3, 1)] * -min(missing, 0), other + [(12, 1)] * max(missing, 0)
    sides = [np.array(side, dtype=np.int64).reshape(-1, 2).T for side in (one, other)]
    found = overlaps.between(*sides[0], *sides[1], 10)
    pieces = [piece for piece, size in one for _ in range(size)]
    tokens = [(place, token) for place, (token, size) in enumerate(other) for _ in range(size)]
    places = [place for place, (_, size) in enumerate(one) for _ in range(size)]
    met = {}
    for piece, at, (place, token) in zip(pieces, places, tokens, strict=True):
        if token >= 10:
            met[place, at] = ((token - 10) * 10 + piece, met.get((place, at), (0, 0))[1] + 1)
    assert sorted(map(tuple, found[[0, 2]].T.tolist())) == sorted(met.values())
    assert (found[1] == 1).all()


def test_overlaps_do_not_depend_on_the_batch_size(made, tmp_path, monkeypatch):
    whole = build("overlaps", made, tmp_path / "a")
    monkeypatch.setattr(overlaps, "BATCH", 7)
    monkeypatch.setattr(overlaps, "PENDING", 50)
    parts = build("overlaps", made, tmp_path / "b")
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


@needs_gensim
def test_tokens_that_occur_often_enough_have_vectors(made, tmp_path):
    extended = hf_tokenizer.load(made["tokenizer"][0])
    found = build("vectors", made, tmp_path / "a")["vectors"]
    counts = np.zeros(len(found), dtype=int)
    for line in made["text"][0].read_text(encoding="utf-8").splitlines():
        np.add.at(counts, extended(line, add_special_tokens=False)["input_ids"], 1)
    assert found.shape[1] == 8 and found.dtype == np.float32
    assert np.array_equal(found.any(1), counts >= 2)
    assert len(np.unique(found[found.any(1)], axis=0)) == found.any(1).sum()
    assert np.array_equal(build("vectors", made, tmp_path / "b")["vectors"], found)
    assert not np.array_equal(build("vectors", made, tmp_path / "c", seed=2)["vectors"], found)


@needs_gensim
def test_token_vectors_are_the_same_in_another_process(made, tmp_path):
    """Python's string hash differs between processes, and gensim's own workers are not deterministic."""
    script = (
        "import sys, numpy as np; from pathlib import Path; from nemo_adapt.auxiliary import vectors;"
        "from nemo_adapt.config import Config; c = Config(); a = c.auxiliary;"
        "a.dims, a.min_count, a.buckets = 8, 2, 500;"
        "found = vectors.make(c, {'tokenizer': [Path(sys.argv[1])], 'text': [Path(sys.argv[2])]});"
        "np.savez(sys.argv[3], **found)"
    )
    words = [str(made["tokenizer"][0]), str(made["text"][0]), str(tmp_path / "other.npz")]
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)
    other = np.load(tmp_path / "other.npz", allow_pickle=False)["vectors"]
    assert np.array_equal(other, build("vectors", made, tmp_path)["vectors"])


@needs_gensim
def test_too_little_text_for_vectors_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"nothing occurs auxiliary\.min_count=100000 times"):
        build("vectors", made, tmp_path, min_count=100_000)


def rows(made):
    return TokenMap.load(made["tokenizer"][0]).target_vocab


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_user_s_own_vectors_are_used(made, tmp_path, suffix):
    own = np.random.default_rng(0).standard_normal((rows(made), 5)).astype(np.float32)
    file = tmp_path / f"own{suffix}"
    np.savez(file, anything=own) if suffix == ".npz" else save_file({"anything": own}, file)
    assert np.array_equal(build("vectors", {**made, "vectors": [file]}, tmp_path)["vectors"], own)


def test_unsuitable_vectors_are_refused(tmp_path):
    def written(**tables):
        np.savez(tmp_path / "own.npz", **tables)
        return tmp_path / "own.npz"

    good = np.ones((4, 2))
    assert vectors.read(written(vectors=good, other=np.ones(3)), 4).dtype == np.float32
    for says, arrays in {
        "holds \\[4, 2\\], but the extended tokenizer has 5 ids": {"a": good},
        "call the table 'vectors'": {"a": good, "b": good},
        "NaN or infinity, first in row 2": {"a": np.array([[1, 1], [1, 1], [np.nan, 1], [np.inf, 1], [1, 1]])},
        "is not a .npz or .safetensors file": {"a": np.array([{}, {}], dtype=object)},
        "NaN or infinity, first in row 0": {"a": np.full((5, 2), 1e300)},
        "holds <U3, not numbers": {"a": np.array([["0.5", "1.0"]] * 5)},
        "holds complex128, not numbers": {"a": np.ones((5, 2), dtype=complex)},
        r"holds \[5, 0\], but": {"a": np.ones((5, 0))},
    }.items():
        with pytest.raises(UserError, match=says) as error:
            vectors.read(written(**arrays), 5)
        assert "\n" not in str(error.value)
    (tmp_path / "own.safetensors").write_bytes(b"no header")
    with pytest.raises(UserError, match=r"is not a \.npz or \.safetensors file"):
        vectors.read(tmp_path / "own.safetensors", 5)


@needs_gensim
def test_bilingual_vectors_are_in_one_space(made, tmp_path):
    """With the target text as its own source and a dictionary of itself, both sides get the same vectors."""
    words = sorted({word for line in target(300) for word in line.split()})
    dictionary = write(tmp_path / "dictionary.tsv", [f"{word}\t{word}" for word in words])
    token_map = TokenMap.load(made["tokenizer"][0])
    same = build("bilingual", {**made, "source_text": made["text"], "dictionary": [dictionary]}, tmp_path / "a")
    assert same["source"].shape == (token_map.source_vocab, 8) and same["target"].shape == (len(token_map.tokens), 8)
    contents = documents.token_contents(hf_tokenizer.load(made["tokenizer"][0]))
    of_text = {content.strip(): row for content, row in zip(contents, same["source"], strict=False)}
    pairs = [
        (of_text[content.strip()], row)
        for content, row in zip(contents[token_map.source_vocab :], same["target"], strict=True)
        if content.strip() in of_text and row.any()
    ]
    for left, right in pairs:
        np.testing.assert_allclose(left, right, atol=1e-4)
    assert same["target"].any(1).mean() > 0.5


@needs_gensim
def test_the_rotation_between_two_spaces_is_recovered(made, tmp_path):
    """Vectors that were rotated by a known matrix are rotated back."""

    class Known:
        def __init__(self, table):
            self.vectors = self
            self.key_to_index = {f"w{i}": i for i in range(len(table))}
            self.table = table

        def __getitem__(self, word):
            return self.table[self.key_to_index[word]]

    random = np.random.default_rng(0)
    right = random.standard_normal((30, 6))
    turn = np.linalg.qr(random.standard_normal((6, 6)))[0]
    pairs = [(f"W{i}", f"w{i}") for i in range(30)]  # found by their lower case
    found = bilingual.rotation(Known(right @ turn.T), Known(right), pairs, tmp_path)
    np.testing.assert_allclose(found, turn, atol=1e-8)
    with pytest.raises(UserError, match="none has both words in the texts"):
        bilingual.rotation(Known(right), Known(right), [("a", "b")], tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["हिन्दी", "में", "पानी"],
        ["தமிழ்", "மொழி"],
        ["العَرَبِيَّة", "بيت"],
        ["cafe\u0301", "x"],
        ["می\u200cخواهم"],
        ["it", "'", "s", "3", "।"],
    ],
)
def test_words_keep_their_combining_marks(words):
    assert bilingual.WORD.findall(" ".join(words)) == words


@pytest.fixture(scope="module", params=BASES)
def donor(request, tmp_path_factory):
    """A model that knows target tokens: its tokenizer is one of the two kinds, its table has rows without a token."""
    folder = tmp_path_factory.mktemp(f"donor_{request.param}")
    base = BASES[request.param](folder / "base")
    out = extend(base, folder / "donor", [write(folder / "target.txt", target(200))], 60)
    return zoo.make(out, "llama", torch.bfloat16, vocab=documents.vocabulary_size(hf_tokenizer.load(out)) + 8)


def test_a_donor_s_rows_are_vectors_of_tokens_of_the_same_bytes(made, donor, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 4000)
    found = build("vectors", {"tokenizer": made["tokenizer"], "vectors": [donor]}, tmp_path)["vectors"]
    table = load_file(donor / "model.safetensors")["model.embed_tokens.weight"].float().numpy()
    ours, theirs = (documents.token_contents(hf_tokenizer.load(each)) for each in (*made["tokenizer"], donor))
    new = len(TokenMap.load(made["tokenizer"][0]).tokens)
    assert found.dtype == np.float32 and found.shape == (len(ours), table.shape[1])
    known = [bool(content) and content in theirs for content in ours]
    for content, vector, is_known in zip(ours, found, known, strict=True):
        assert (vector == (table[theirs.index(content)] if is_known else 0.0)).all(), content
    assert 10 < sum(known[-new:]) < new
    said = (
        f"has {sum(known[-new:])} of the {new} new tokens, and {sum(known[:-new])} of the {len(ours) - new} of the base"
    )
    assert said in capsys.readouterr().out


def test_a_donor_without_new_tokens_or_with_numbers_that_are_none_is_refused(made, donor, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(donor, other)
    weights = load_file(other / "model.safetensors")
    weights["model.embed_tokens.weight"][-20:] = float("nan")
    torch_save_file(weights, other / "model.safetensors")
    with pytest.raises(UserError, match=r"auxiliary\.vectors: .*other holds NaN or infinity, first in row \d+"):
        build("vectors", {"tokenizer": made["tokenizer"], "vectors": [other]}, tmp_path / "nan")
    for file in made["base"][0].iterdir():
        shutil.copy(file, other)
    for file in ("tokenizer.json", "tokenizer.model"):
        if not (made["base"][0] / file).exists():
            (other / file).unlink(missing_ok=True)
    with pytest.raises(UserError, match="other has none of the new tokens: choose a model of both languages"):
        build("vectors", {"tokenizer": made["tokenizer"], "vectors": [other]}, tmp_path / "base")


def test_dictionaries_are_read_and_malformed_ones_refused(tmp_path):
    file = write(tmp_path / "d.tsv", ["the house\tev", "", "water su", "day\tgün "])
    assert bilingual.read_dictionary(file) == [("the house", "ev"), ("water", "su"), ("day", "gün")]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert bilingual.read_dictionary(file)[0] == ("the house", "ev")  # the byte order mark is no part of the word
    write(file, ["water\tsu", "one two three"])
    with pytest.raises(UserError, match="line 2 is not a source and a target word"):
        bilingual.read_dictionary(file)
    file.write_bytes("gün\tday\n".encode("iso-8859-9"))
    with pytest.raises(UserError, match="not UTF-8"):
        bilingual.read_dictionary(file)


def config_for(place, **chosen):
    words = [f"resize.{key}={value}" for key, value in chosen.items() if key in ("input", "output")]
    words += [f"auxiliary.{key}={value}" for key, value in chosen.items() if key not in ("input", "output")]
    text = write(place / "text.txt", ["a b"])
    return recipes.load("blank", ["run.name=x", f"model.path={place}", f"data.target=[{text}]", *words])


def test_the_road_has_only_the_auxiliary_stages_that_strategies_need(tmp_path):
    def kinds(**chosen):
        steps = pipeline.steps_of(config_for(tmp_path, **chosen))
        names = [step.name for step in steps]
        assert names.index("convert") > max((i for i, name in enumerate(names) if name == "auxiliary"), default=0)
        return {step.result for step in steps if step.name == "auxiliary"}

    assert kinds() == set()
    assert kinds(input="focus", output="omp") == {"auxiliary/vectors"}
    assert kinds(input="calibrated", output="align") == {"auxiliary/piece_bytes", "auxiliary/overlaps"}
    config = config_for(tmp_path, input="align")
    handed = reads.resize(config, RunFolder.of(config))
    assert handed["auxiliary.overlaps"] == [RunFolder.of(config)["auxiliary/overlaps"]]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"input": "wechsel"}, "resize.input=wechsel .* needs a bilingual dictionary: give auxiliary.dictionary"),
        ({"input": "wechsel", "dictionary": "none.tsv"}, "needs source-language text: give auxiliary.source_text"),
        ({"output": "focus", "vectors": "none.npz"}, "auxiliary.vectors: none.npz does not exist"),
        ({"input": "focsu"}, "unknown resize strategy 'focsu'. Did you mean 'focus'"),
    ],
)
def test_missing_inputs_are_reported_before_anything_runs(tmp_path, chosen, says):
    config = config_for(tmp_path, **chosen)
    with pytest.raises(UserError, match=says) as error:
        for step in pipeline.steps_of(config):
            if step.name == "auxiliary":
                step.reads(config, RunFolder.of(config))
    assert "\n" not in str(error.value)


def test_missing_gensim_is_reported_with_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = config_for(tmp_path, input="focus")
    with pytest.raises(UserError, match=r"pip install 'nemo-adapt\[focus\]'"):
        reads.vectors(config, RunFolder.of(config))
