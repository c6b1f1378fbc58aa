"""A checkpoint for Megatron-Bridge, loaded as its Transformer Engine model requests it at TP=2."""

import pytest
import torch
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map
from ranks import bridge_bodies
from safetensors.torch import load_file

from nemo_adapt.bridge import checkpoint


@pytest.fixture
def paths(tmp_path):
    """Return checkpoint, model, tokenizer and output folder."""
    model = make_llama(tmp_path / "model", TinyLlama(vocab=301))
    make_token_map(tmp_path / "tokenizer", 301, 0)
    (tmp_path / "out").mkdir()
    return converted(model, tmp_path / "convert"), model, tmp_path / "tokenizer", tmp_path / "out"


def test_padded_rows_are_zero_and_extra_states_are_present(paths, ranks):
    checkpoint.write(*paths)
    answers = ranks(2).run(bridge_bodies.load, paths[-1] / "iter_0000000", 304, 32)
    table = torch.cat([half for half, _ in answers])
    wanted = load_file(paths[1] / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(table[:301], wanted) and not table[301:].count_nonzero()
    assert all(state.numel() == 0 for _, state in answers)


def test_check_detects_missing_extra_states(paths, ranks, monkeypatch):
    """Negative control: without them the checkpoint cannot be loaded."""
    monkeypatch.setattr(checkpoint, "EXTRA_STATES", ())
    checkpoint.write(*paths)
    with pytest.raises(RuntimeError, match="Missing key in checkpoint"):
        ranks(2).run(bridge_bodies.load, paths[-1] / "iter_0000000", 304, 32)
