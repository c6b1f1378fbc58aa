"""The curve of fertility over size, and the size that reaches a target: both equal extensions of that size."""

import json

import pytest
from tokenizer_samples import byte_level_base, english, extend, sentencepiece_base, target, write

from nemo_adapt import hf_tokenizer
from nemo_adapt.errors import UserError
from nemo_adapt.tokens.token_map import TokenMap

KINDS = {"sentencepiece": sentencepiece_base, "byte_level": byte_level_base}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    return {"xx": write(folder / "target.txt", target()), "en": write(folder / "en.txt", english(600))}


@pytest.fixture(scope="module", params=KINDS)
def base(request, tmp_path_factory):
    return KINDS[request.param](tmp_path_factory.mktemp(request.param) / "base")


def tokens(folder, lines):
    fast = hf_tokenizer.load(folder)
    return sum(len(fast(line, add_special_tokens=False)["input_ids"]) for line in lines)


def test_each_row_of_the_sweep_equals_an_extension_of_that_size(base, text, tmp_path):
    out = extend(base, tmp_path / "sweep", [text["xx"]], 40, parallel=text, sweep=[80, 20, 40])
    rows = json.loads((out / "sweep.json").read_text())
    assert [(row["new_tokens"], row["language"]) for row in rows] == [
        (size, language) for size in (0, 20, 40, 80) for language in ("xx", "en")
    ]
    assert rows[1]["tokens_vs_reference"] == 1.0 and rows[1]["tokens"] == tokens(base, english(600))
    curve = [row["tokens"] for row in rows if row["language"] == "xx"]
    assert curve == sorted(curve, reverse=True)
    for size, found in zip((20, 40), curve[1:], strict=False):
        alone = extend(base, tmp_path / str(size), [text["xx"]], size)
        assert found == tokens(alone, target())
        if size == 40:
            assert (alone / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()
    size = sum(len(line.encode()) for line in target())
    assert rows[-2]["bytes_per_token"] == pytest.approx(size / curve[-1], abs=1e-3)
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_target_disparity_is_reached_with_the_fewest_tokens(base, text, tmp_path, capsys):
    english_tokens = tokens(base, english(600))
    start = tokens(base, target()) / english_tokens
    asked = round(start / 3, 2)
    out = extend(base, tmp_path / "out", [text["xx"]], 150, parallel=text, target_disparity=asked)
    count = len(TokenMap.load(out).tokens)
    report = json.loads((out / "learn.json").read_text())["target"]
    assert 0 < count < 150 and report["reached"] and report["language"] == "xx"
    assert tokens(out, target()) / english_tokens == pytest.approx(report["disparity"], abs=1e-3)
    assert report["disparity"] <= asked
    assert f"reached with {count:,} new tokens" in capsys.readouterr().out
    fewer = extend(base, tmp_path / "fewer", [text["xx"]], count - 2)
    assert tokens(fewer, target()) / english_tokens > asked


def test_unreachable_target_is_reported_and_a_met_one_adds_nothing(base, text, tmp_path, capsys):
    out = extend(base, tmp_path / "out", [text["xx"]], 30, parallel=text, target_disparity=0.1)
    assert len(TokenMap.load(out).tokens) == 30
    assert not json.loads((out / "learn.json").read_text())["target"]["reached"]
    assert "not reached: the limit is 30 new tokens" in capsys.readouterr().out
    none = extend(base, tmp_path / "none", [text["xx"]], 30, parallel=text, target_disparity=99.0)
    assert TokenMap.load(none).tokens == []


def test_target_disparity_needs_line_aligned_parallel_text(base, text, tmp_path, capsys):
    shorter = {**text, "en": write(tmp_path / "en.txt", english(599))}
    with pytest.raises(UserError) as error:
        extend(base, tmp_path / "out", [text["xx"]], 30, parallel=shorter, target_disparity=1.1)
    said = "tokenizer.parallel: xx has 600 lines, en 599: line-aligned text is needed"
    assert said in str(error.value) and "counting words" not in capsys.readouterr().out
    assert extend(base, tmp_path / "measured", [text["xx"]], 30, parallel=shorter)
