"""The bases of arXiv 2406.14670 take the whole road: 1,000 new tokens, training at TP=2, a folder for transformers."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import bases, zoo
from helpers.folders import Folders
from helpers.tiny import converted, make_token_map, tiny_config
from ranks import model_bodies, road_bodies, training_bodies
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from nemo_adapt import convert, export
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.data import stage as data
from nemo_adapt.smallworld import world
from nemo_adapt.tokenizer import stage as tokenizer
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

NEW = 1000
SENTENCE = "Selma çarşıya gitti ve bir elma aldı. They walked to the house by the river."


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder with ``tr.txt`` and ``en.txt``, the same documents in both languages, and the English lines."""
    place = tmp_path_factory.mktemp("text")
    drawn = list(itertools.islice(world.documents(7), 2600))
    for language in ("tr", "en"):
        (place / f"{language}.txt").write_text("".join(f"{document[language]}\n" for document in drawn), "utf-8")
    return place, [document["en"] for document in drawn[:600]]


@dataclass(frozen=True)
class Road:
    """A base that went through all stages, in folders as a run has them."""

    config: Config
    base: Path
    run: Path
    tokenizer: PreTrainedTokenizerFast
    """The tokenizer of the base."""

    @property
    def token_map(self):
        return TokenMap.load(self.run / "tokenizer")

    @property
    def checkpoint(self):
        return self.run / "train" / "checkpoints" / "iter_0000020"


@pytest.fixture(scope="module", params=bases.BASES)
def road(request, text, ranks, tmp_path_factory):
    """Run the stages in order, all but training in this process."""
    place = tmp_path_factory.mktemp("road")
    base, run = place / "base", place / "run"
    source = bases.make(base, request.param, text[1])
    files = {language: [text[0] / f"{language}.txt"] for language in ("tr", "en")}
    config = road_config()
    inputs = {
        "tokenizer": {"base": [base], "text": files["tr"]},
        "data/target": {"tokenizer": [run / "tokenizer"], "text": files["tr"]},
        "data/replay": {"tokenizer": [run / "tokenizer"], "text": files["en"]},
        "convert": {"model": [base]},
    }
    for name, build in zip(inputs, (tokenizer.build, data.build, data.build, convert.build), strict=True):
        (run / name).mkdir(parents=True)
        build(config, inputs[name], run / name)
    trained = {
        "model": [base], "checkpoint": [run / "convert"], "tokenizer": [run / "tokenizer"],
        "data.target": [run / "data/target"], "data.replay": [run / "data/replay"],
    }  # fmt: skip
    for name in ("train", "export"):
        (run / name).mkdir()
    ranks(2).run(road_bodies.train, config, trained, run / "train", timeout=240)
    export.build(config, {**trained, "train": [run / "train"]}, run / "export")
    return Road(config, base, run, source)


def road_config():
    """Return settings with TP=2 and sequence parallelism; the new rows are trained first, then everything."""
    config = tiny_config(tp=2, sequence=True)
    config.tokenizer.new_tokens = NEW
    config.data.target, config.data.replay, config.data.replay_share = ["tr.txt"], ["en.txt"], 0.2
    train = config.train
    train.phases = [PhaseConfig("new_rows", 6, 2e-2), PhaseConfig("all", 14, 5e-3)]
    train.seq_length, train.global_batch, train.micro_batch, train.log_every = 64, 16, 16, 1
    return config


def test_tokenizer_is_extended_by_a_thousand_tokens(road):
    """Base ids do not change; rows that the base had beyond its tokens are reused or trimmed."""
    token_map, extended = road.token_map, AutoTokenizer.from_pretrained(road.run / "export")
    assert token_map.source_vocab == len(road.tokenizer) and len(token_map.tokens) == NEW
    assert len(extended) == len(road.tokenizer) + NEW
    before, after = (set(made.get_vocab().items()) for made in (road.tokenizer, extended))
    assert before <= after
    ids = extended(SENTENCE, add_special_tokens=False).input_ids
    assert max(ids) >= token_map.source_vocab
    assert extended.decode(ids) == SENTENCE
    base = json.loads((road.base / "config.json").read_text())
    adapted = json.loads((road.run / "export/config.json").read_text())
    assert adapted["vocab_size"] == token_map.target_vocab and base["vocab_size"] >= token_map.source_vocab


def test_loss_falls_in_both_phases(road):
    lines = (road.run / "train" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines if "loss" in line]
    losses = [record["loss"] for record in records]
    assert [record["step"] for record in records] == list(range(1, 21))
    new_rows, everything = losses[:6], losses[6:]
    assert new_rows[-1] < new_rows[0] - 0.05 and everything[-1] < everything[0] - 0.2


def test_exported_model_has_megatrons_logits_in_transformers(road, ranks):
    """Compared with Megatron at TP=2 on the last checkpoint; transformers finds every tensor of the model."""
    extended = AutoTokenizer.from_pretrained(road.run / "export")
    model, info = AutoModelForCausalLM.from_pretrained(
        road.run / "export", dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    ids = torch.tensor([documents.encode(extended, [SENTENCE])[0]])
    ids = ids[:, : ids.shape[1] // 2 * 2]  # sequence parallelism splits it over two ranks
    with torch.no_grad():
        expected = model(ids).logits
    folders = Folders(road.base, road.run / "convert", road.run / "tokenizer")
    ours = ranks(2).run(model_bodies.trained_logits, road.config, folders, road.checkpoint, ids)[0]
    rows = road.token_map.target_vocab
    assert expected.shape[-1] == rows
    torch.testing.assert_close(ours[..., :rows], expected, rtol=0, atol=1e-4)
    assert (ours[..., rows:] == float("-inf")).all()


def test_every_tensor_was_trained(road):
    """Every tensor of the checkpoint has changed, including the new rows of an output bias."""
    before, after = Checkpoint(road.run / "convert"), Checkpoint(road.checkpoint)
    for key, shape in before.shapes.items():
        rows = min(shape[0], after.shapes[key][0])
        now = after.rows(key, 0, rows)
        assert not torch.equal(before.rows(key, 0, rows), now), key
    if "output_layer.bias" in after.shapes:
        first = road.token_map.source_vocab
        new = after.rows("output_layer.bias", first, first + NEW)
        assert new.abs().min() > 0 and len(new.unique()) > NEW / 2


def folders_of(place, name, new):
    model = zoo.make(place / "model", name)
    make_token_map(place / "tokenizer", zoo.VOCAB, new)
    return Folders(model, converted(model, place / "convert"), place / "tokenizer")


LAYOUTS = {"tp2-sequence": {"tp": 2, "sequence": True}, "pp2": {"pp": 2}}
ADDED = 6
"""New rows; they include the frequent tokens of ``training_bodies.samples``."""


def three_phases(**parallel):
    config = tiny_config(**parallel)
    train = config.train
    train.global_batch, train.micro_batch, train.seq_length = 8, 2, training_bodies.SEQ
    train.recompute = "pp" in parallel
    train.phases = [PhaseConfig(kind, 2, 1e-2) for kind in ("new_rows", "embeddings", "all")]
    return config


@pytest.mark.parametrize("name", ["bloom", "phi", "phi, tied", "apertus"])
def test_losses_and_gradient_norms_equal_those_of_one_rank(name, ranks, tmp_path, monkeypatch):
    """In phases of new rows, tables and everything; a parameter not marked as sharded, or as seeing only a part of the
    sequence, would change them."""
    monkeypatch.setitem(zoo.ZOO, "phi, tied", tied_phi)
    folders = folders_of(tmp_path, name, ADDED)

    def trained(size, **parallel):
        return ranks(size).run(training_bodies.train, three_phases(**parallel), folders, zoo.VOCAB + ADDED)

    (reference,) = trained(1)
    for layout in LAYOUTS.values():
        for result in trained(2, **layout):
            torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
            torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)
    bias = [state["output_layer.bias"] for state in reference.states if "output_layer.bias" in state]
    if bias:  # the first phase trains its new rows, the next all rows; padded rows never change
        moved = [(before != after).tolist() for before, after in itertools.pairwise(bias)]
        rows = zoo.VOCAB + ADDED
        assert not any(moved[0][: zoo.VOCAB]) and all(moved[0][zoo.VOCAB : rows])
        assert all(moved[1][:rows]) and not any(any(each[rows:]) for each in moved)


def test_training_resumes_in_another_layout(ranks, tmp_path):
    """In the phase of new rows, of which an output bias has some too, and in the last phase."""
    words = (folders_of(tmp_path, "phi", ADDED), zoo.VOCAB + ADDED, tmp_path / "saved")
    expected = ranks(2).run(training_bodies.train_and_save, three_phases(tp=2, sequence=True), *words, 0, 6)[0]
    for first in (1, 5):
        found = ranks(2).run(training_bodies.train_and_save, three_phases(pp=2), *words, first, 6)[0]
        torch.testing.assert_close(found, expected[first:], rtol=0, atol=1e-5)


def tied_phi():
    config = zoo.ZOO["phi"]()
    config.tie_word_embeddings = True
    return config


def test_check_detects_wrong_alibi_slopes(tmp_path, ranks):
    """Negative control: each TP rank has its own heads, with their own slopes."""
    folders = folders_of(tmp_path, "bloom", 0)
    ids = torch.randint(3, zoo.VOCAB, (1, 32), generator=torch.Generator().manual_seed(1))
    right, wrong = (
        ranks(2).run(body, tiny_config(tp=2), folders, ids)[0][..., : zoo.VOCAB]
        for body in (model_bodies.logits, road_bodies.logits_with_wrong_slopes)
    )
    assert (right - wrong).abs().max() > 1e-2
