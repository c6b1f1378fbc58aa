"""Text sets are blended by their shares, in an order independent of options and of the training's length."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.bytes_tokenizer import END, save_tokenizer
from ranks import data_bodies

from nemo_adapt.config import Config, SetConfig
from nemo_adapt.corpora.mixture import text_sets
from nemo_adapt.data import stage

LETTERS = {"target": "a", "replay": "b", "code": "c", "web": "d"}
STEPS = 50


@pytest.fixture(scope="module")
def blend(tmp_path_factory, ranks):
    """Return a configuration with four sets, each of one letter, the inputs of its training, a folder for caches, and
    the tokens that one rank reads."""
    place = tmp_path_factory.mktemp("sets")
    save_tokenizer(place / "tokenizer")
    config = Config()
    config.data.replay, config.data.replay_share = ["b"], 0.2
    config.data.sets = {"code": SetConfig(["c"], 0.1), "web": SetConfig(["d"], 0.3)}
    config.train.seq_length, config.train.global_batch, config.train.micro_batch = 16, 8, 4
    inputs = {"tokenizer": [place / "tokenizer"]}
    for name in text_sets(config):
        text, out = place / f"{name}.txt", place / "data" / name
        text.write_text("".join(LETTERS[name] * (1 + number % 20) + "\n" for number in range(2000)))
        out.mkdir(parents=True)
        stage.build(config, {"tokenizer": [place / "tokenizer"], "text": [text]}, out)
        inputs[f"data.{name}"] = [out]
    return config, inputs, place, ranks(1).run(data_bodies.tokens, config, inputs, STEPS, place / "cache")[0]


def test_sets_are_blended_by_their_configured_shares(blend):
    config, _, place, tokens = blend
    shares = {name: each.share for name, each in text_sets(config).items()}
    assert shares == pytest.approx({"target": 0.4, "replay": 0.2, "code": 0.1, "web": 0.3})
    ids = {name: save_tokenizer(place / "again").encode(letter)[0] for name, letter in LETTERS.items()}
    for name, share in shares.items():
        of_set = (tokens == ids[name]).any(dim=1)
        assert of_set.float().mean().item() == pytest.approx(share, abs=0.01)
        others = [other for letter, other in ids.items() if letter != name]
        assert not torch.isin(tokens[of_set], torch.tensor(others)).any()


def test_ranks_keep_no_number_for_each_document(blend, ranks):
    """With 1e9 documents they would need 4 GB of memory on each."""
    config, inputs, place, _ = blend
    assert ranks(1).run(data_bodies.document_numbers, config, inputs, place / "cache") == [[False] * 4]


def test_sample_order_is_independent_of_length_options_and_ranks(blend, ranks):
    config, inputs, place, expected = blend
    config = replace(config, train=replace(config.train))
    config.train.reset_positions = config.train.reset_attention = config.train.mask_document_ends = True
    [longer] = ranks(1).run(data_bodies.tokens, config, inputs, 2 * STEPS, place / "cache_longer")
    assert torch.equal(longer[: len(expected)], expected)
    halves = ranks(2).run(data_bodies.tokens, config, inputs, STEPS, place / "cache_two")
    by_rank = expected.view(STEPS, 2, 4, -1)  # step, rank, sample, token
    for rank, half in enumerate(halves):
        assert torch.equal(half, by_rank[:, rank].flatten(0, 1))


def test_a_short_training_with_many_sets_has_samples_enough(blend, ranks):
    """The blend takes more than 49 of the first set. As many are three quarters of 64 with Megatron's own surplus: it
    would make the 7 of each epoch 7 times."""
    config, inputs, place, _ = blend
    place = place / "short"
    place.mkdir()
    (place / "text.txt").write_text("a" * 7 * 16 + "\n")
    (place / "target").mkdir()
    stage.build(config, {**inputs, "text": [place / "text.txt"]}, place / "target")
    sets = [(place / "target", 0.75), (inputs["data.replay"][0], 0.1), *[(inputs["data.web"][0], 0.05)] * 3]
    for whole, *parts in ranks(2).run(data_bodies.lengths, config, sets, 64, place / "cache"):
        assert whole >= 64 and parts[0] == 56


@pytest.mark.parametrize("is_lone", [False, True])
def test_the_text_of_suspect_samples_is_written_with_the_names_of_their_sets(blend, ranks, is_lone):
    """The first of two ranks writes; both say where. Without a blend, Megatron's set is not in a list."""
    config, inputs, place, _ = blend
    if is_lone:
        data = replace(config.data, replay=[], replay_share=0.0, sets={})
        config = replace(config, data=data)
    cache = place / f"suspects_{is_lone}"
    (said, tokens), other = ranks(2).run(data_bodies.suspects, config, inputs, cache, [6, 1, 0, 3])
    assert said == other[0] == str(cache / "suspect_samples.jsonl")
    records = [json.loads(line) for line in Path(said).read_text(encoding="utf-8").splitlines()]
    assert [(record["sample"], record["step"]) for record in records] == [(6, 1), (1, 1), (0, 1), (3, 1)]
    assert {record["set"] for record in records} <= ({"target"} if is_lone else set(LETTERS))
    assert is_lone or len({record["set"] for record in records}) > 1
    tokenizer = save_tokenizer(place / "again")
    for record, ids in zip(records, tokens.tolist(), strict=True):
        assert set(record["text"].replace(END, "")) == {LETTERS[record["set"]]}
        assert tokenizer.encode(record["text"])[:-1] == ids, "all of the sample, and the last label"


def test_a_full_disk_is_one_line(blend, ranks):
    """Megatron says to supply another folder in its own settings."""
    config, inputs, place, _ = blend
    (said,) = ranks(1).run(data_bodies.tokens_on_a_full_disk, config, inputs, place / "full")
    assert said.startswith(f"{place / 'full'}: the order of the samples could not be written (4096 requested and 0")
    assert "\n" not in said


def test_check_detects_another_order(blend, ranks):
    """Negative control: another seed gives another order."""
    config, inputs, place, expected = blend
    config = replace(config, train=replace(config.train, seed=config.train.seed + 1))
    [other] = ranks(1).run(data_bodies.tokens, config, inputs, STEPS, place / "cache_seed")
    assert not torch.equal(other, expected)
