"""Bits per byte computed on ranks equal those of the evaluation, in every layout."""

import math

import numpy as np
import pytest
import torch
from helpers import zoo
from helpers.bytes_tokenizer import save_tokenizer
from helpers.folders import Folders, folders_of
from helpers.tiny import TinyLlama, converted, make_token_map, tiny_config
from ranks import probe_bodies
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from nemo_adapt.evaluate import bits_per_byte

TEXTS = ["Kedi uyuyor ve yagmur yagiyor.", "Su.", "Bugun hava cok guzel, yarin da guzel olacak.", "Ev.", "Kapi acildi."]
TEXTS += [f"{text} {number}" for number, text in enumerate(TEXTS * 3)]  # more windows than a round has
LAYOUTS = [
    {},
    {"tp": 2},
    {"tp": 2, "sequence": True},
    {"pp": 2},
    {"pp": 2, "virtual": 2},
    {"dp": 2},
    {"cp": 2},
    {"cp": 2, "pp": 2},
]
WINDOW = 13  # odd, so that sequence parallelism has to pad


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def reference(request, tmp_path_factory):
    """Return a model's folders, the sequences to score, and the evaluation's nats."""
    tiny = TinyLlama(request.param, vocab=257, layers=4)
    folders = folders_of(tmp_path_factory.mktemp("score"), tiny)
    tokenizer = save_tokenizer(folders.model)
    model = LlamaForCausalLM.from_pretrained(folders.model, dtype=torch.float32)
    score = bits_per_byte.score(model, tokenizer, TEXTS, WINDOW, 3)
    return folders, bits_per_byte.scored_sequences(tokenizer, TEXTS), float(score.nats.sum())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_nats_equal_those_of_the_evaluation(reference, ranks, layout):
    folders, sequences, expected = reference
    config = tiny_config(**layout)
    for found in ranks(config.parallel.ranks).run(probe_bodies.nats, config, folders, sequences, WINDOW, 3):
        assert found == pytest.approx(expected, rel=1e-5)


def test_nats_with_learned_positions_equal_those_of_the_evaluation(ranks, tmp_path):
    zoo.make(tmp_path / "model", "gpt2", vocab=257)
    make_token_map(tmp_path / "tokenizer", 257, 0)
    folders = Folders(tmp_path / "model", converted(tmp_path / "model", tmp_path / "convert"), tmp_path / "tokenizer")
    tokenizer = save_tokenizer(folders.model)
    model = GPT2LMHeadModel.from_pretrained(folders.model, dtype=torch.float32).eval()
    expected = bits_per_byte.score(model, tokenizer, TEXTS, WINDOW, 3).nats.sum()
    sequences = bits_per_byte.scored_sequences(tokenizer, TEXTS)
    (found,) = ranks(1).run(probe_bodies.nats, tiny_config(), folders, sequences, WINDOW, 3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_bits_per_byte_divides_by_the_utf8_bytes_of_the_scored_text(reference, ranks, tmp_path):
    """Some letters have two bytes, and ``probe.max_bytes`` leaves out the second document."""
    folders, _, _ = reference
    text = tmp_path / "text.txt"
    text.write_text("Kedi uyuyor, yağmur yağıyor.\nBugün hava çok güzel.\n", encoding="utf-8")
    config = tiny_config()
    config.probe.max_bytes, config.evaluate.context, config.evaluate.batch = 40, WINDOW, 3
    model = LlamaForCausalLM.from_pretrained(folders.model, dtype=torch.float32)
    score = bits_per_byte.score(model, save_tokenizer(tmp_path), ["Kedi uyuyor, yağmur yağıyor."], WINDOW, 3)
    (found,) = ranks(1).run(probe_bodies.bits_per_byte, config, folders, text)
    assert found == pytest.approx(score.nats.sum() / math.log(2) / 31, rel=1e-5)


def test_check_detects_a_document_scored_twice(reference, ranks):
    """Negative control: one more document changes the sum by far more than the tolerance."""
    folders, sequences, expected = reference
    more = [*sequences, np.array(sequences[1])]
    assert ranks(1).run(probe_bodies.nats, tiny_config(), folders, more, WINDOW, 3)[0] > expected * 1.001
