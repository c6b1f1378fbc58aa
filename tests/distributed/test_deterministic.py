"""On a GPU, two trainings with ``train.deterministic`` have the same bits."""

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders
from helpers.tiny import converted, make_token_map, tiny_config
from ranks import deterministic_bodies

from nemo_adapt import devices
from nemo_adapt.config import PhaseConfig

pytestmark = pytest.mark.skipif(not devices.on_gpu(), reason="without a GPU, no result depends on timing")
LENGTH, NEW = 512, 6
"""Of samples: several blocks of an attention kernel, whose gradients are added up in any order if it may."""


def config_of(**train):
    config = tiny_config()
    size = {"seq_length": LENGTH, "micro_batch": 2, "global_batch": 4, "precision": "bf16", "deterministic": True}
    for name, value in {**size, **train}.items():
        setattr(config.train, name, value)
    config.train.phases = [PhaseConfig("new_rows", 2, 1e-2), PhaseConfig("all", 4, 1e-2)]
    return config


@pytest.mark.parametrize("apart", [False, True], ids=["whole samples", "documents apart"])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_two_trainings_have_the_same_bits(tmp_path, ranks, name, apart):
    folder = zoo.make(tmp_path / "model", name)
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, NEW)
    folders = Folders(folder, converted(folder, tmp_path / "convert"), tmp_path / "tokenizer")
    words = config_of(reset_attention=apart), folders, zoo.VOCAB + NEW
    [one], [other] = (ranks(1).run(deterministic_bodies.train, *words) for _ in range(2))
    assert one.losses == other.losses and one.grad_norms == other.grad_norms
    for key, weights in one.parameters.items():
        assert torch.equal(weights, other.parameters[key]), key
