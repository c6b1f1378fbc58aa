"""Norms, neighbours and shares against a plain computation over whole tables; what the command writes."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from helpers.bytes_tokenizer import save_tokenizer
from helpers.tiny import TinyLlama, converted, make_llama
from safetensors.torch import load_file

from nemo_adapt.checkpoint import tables
from nemo_adapt.errors import UserError
from nemo_adapt.inspection import command, measures

WORDS = ["ev", "gel"]
BASE, NEW = 257, 3  # ev, ge, gel


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def pair(request, tmp_path_factory):
    """A base folder and an adapted one, with tokenizers."""
    place = tmp_path_factory.mktemp("inspect")
    base = make_llama(place / "base", TinyLlama(request.param, vocab=BASE))
    adapted = make_llama(place / "adapted", TinyLlama(request.param, vocab=BASE + NEW))
    save_tokenizer(base)
    save_tokenizer(adapted, WORDS)
    return base, adapted


def plain(folder):
    weights = load_file(folder / "model.safetensors")
    found = {"input": weights["model.embed_tokens.weight"]}
    return {**found, "output": weights["lm_head.weight"]} if "lm_head.weight" in weights else found


@pytest.mark.parametrize("block_bytes", [1, 1000, 1 << 20])
def test_blockwise_measures_equal_a_computation_on_whole_tables(pair, monkeypatch, block_bytes):
    monkeypatch.setattr(tables, "BLOCK_BYTES", block_bytes)
    _, adapted = pair
    whole = plain(adapted)
    found = tables.of_folder(adapted)
    assert found.keys() == whole.keys()
    for name, table in found.items():
        rows = whole[name]
        np.testing.assert_allclose(measures.norms(table, 0, len(rows)), rows.double().norm(dim=1), rtol=1e-6)
        cosines = torch.nn.functional.cosine_similarity(rows[BASE, None], rows[:BASE])
        values, order = cosines.topk(4)
        ((near),) = measures.neighbours(table, BASE, [BASE], 4)
        assert [row for row, _ in near] == order.tolist()
        np.testing.assert_allclose([value for _, value in near], values, atol=1e-6)


def test_checkpoint_has_the_same_rows_as_the_model_folder(pair, tmp_path):
    base, _ = pair
    checkpoint = tables.of_checkpoint(converted(base, tmp_path / "convert"))
    folder = tables.of_folder(base)
    assert checkpoint.keys() == folder.keys()
    for name, table in folder.items():
        assert torch.equal(checkpoint[name].pick([0, 200, 3]), table.pick([0, 200, 3]))


def test_shares_of_norms_outside_the_base_range():
    base = np.linspace(1.0, 2.0, 101)
    facts = measures.describe(np.array([0.5, 1.5, 1.995, 3.0]), base)
    assert (facts.outside, facts.unusual) == (0.5, 0.75)
    assert measures.describe(base, base).unusual == pytest.approx(2 / 101)


def test_projection_separates_two_clusters(tmp_path):
    """Two clusters along two axes stay apart, and the projection has nearly all the variance."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 16, generator=draw) * 0.01
    rows[:40, 0] += torch.linspace(-1, 1, 40)
    rows[40:, 5] += 2.0
    table = tables.Table(60, 16, lambda start, stop: rows[start:stop])
    base, new, share = measures.projection(table, 40, 60)
    assert base.shape == (40, 2) and new.shape == (20, 2) and share > 0.98
    assert min(abs(new[:, 0])) > 0.5 or min(abs(new[:, 1])) > 0.5


def test_command_writes_json_csv_and_plots(pair, tmp_path, capsys):
    base, adapted = pair
    command.main([f"base={base}", f"adapted={adapted}", "tokens=[gel,ev]", "neighbours=3", f"out={tmp_path}"])
    report = json.loads((tmp_path / "inspect.json").read_text())
    assert report.keys() == plain(adapted).keys()
    for facts in report.values():
        assert [row["token"] for row in facts["neighbours"]] == ["gel", "ev"]
        assert all(len(row["nearest"]) == 3 for row in facts["neighbours"])
        assert facts["norms"]["new"]["rows"] == NEW and facts["norms"]["base"]["rows"] == BASE
    rows = list(csv.DictReader((tmp_path / "neighbours.csv").open(encoding="utf-8")))
    assert len(rows) == 6 * len(report) and rows[0]["token"] == "gel"
    assert (tmp_path / "inspect.png").stat().st_size > 5000 and (tmp_path / "norms.csv").is_file()
    assert "'gel'" in capsys.readouterr().out


def test_invalid_arguments_raise_user_errors(pair, tmp_path):
    base, adapted = pair
    cases = {
        "name what to inspect": [],
        "is not a new token. Did you mean 'gel'": [f"base={base}", f"adapted={adapted}", "tokens=[gell]"],
        "is not a run's folder": [f"run={tmp_path}"],
        "has no new tokens": [f"base={adapted}", f"adapted={adapted}"],
        "do not belong together": [f"base={base}", f"adapted={base}", f"tokenizer={adapted}"],
    }
    for says, words in cases.items():
        with pytest.raises(UserError, match=says):
            command.main([*words, f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_base_with_swapped_tokens_is_refused(pair, tmp_path):
    """It has the same number of tokens, but two have exchanged ids."""
    base, adapted = pair
    other = tmp_path / "other"
    shutil.copytree(base, other)
    content = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    first, second = [token for token, number in vocab.items() if number > 100][:2]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (other / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="do not belong together") as caught:
        command.main([f"base={other}", f"adapted={adapted}", f"out={tmp_path / 'out'}"])
    assert str(other) in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["show=-3", "neighbours=-1"])
def test_numbers_below_1_are_refused(word):
    with pytest.raises(UserError, match=f"{word} must be at least 1"):
        command.main(["base=x", "adapted=y", word])
