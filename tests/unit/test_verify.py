"""``nemo-adapt verify``: equal models, each kind of difference, and what cannot be compared."""

import shutil

import pytest
import torch
from helpers.tiny import TinyLlama, converted, make_llama
from safetensors.torch import load_file, save_file

from nemo_adapt import verify
from nemo_adapt.errors import UserError


@pytest.fixture
def model(tmp_path):
    return make_llama(tmp_path / "model", TinyLlama())


def changed(model, place, change):
    """A copy of the folder, its tensors changed by a function."""
    shutil.copytree(model, place)
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
    return place


def nudge(tensors):
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 0.25


def test_a_model_is_itself_in_every_form(model, tmp_path):
    checkpoint = converted(model, tmp_path / "checkpoint")
    for pair in ((model, model), (checkpoint, checkpoint), (model, checkpoint), (checkpoint, model)):
        found = verify.compare(*pair)
        assert not found.wrong and found.same >= 9


def test_a_changed_number_is_found(model, tmp_path):
    other = changed(model, tmp_path / "other", nudge)
    checkpoints = converted(model, tmp_path / "one"), converted(other, tmp_path / "two")
    said = "differs by up to 0.25"
    assert verify.compare(model, other).wrong == {"model.layers.1.mlp.up_proj.weight": said}
    assert verify.compare(*checkpoints).wrong == {"decoder.layers.mlp.linear_fc1.weight": said}
    assert verify.compare(model, checkpoints[1]).wrong == {"decoder.layers.mlp.linear_fc1.weight 1": said}
    assert not verify.compare(model, other, tolerance=0.3).wrong


def test_names_shapes_and_dtypes_are_compared(model, tmp_path):
    def change(tensors):
        tensors["extra"] = torch.zeros(2)
        del tensors["lm_head.weight"]
        tensors["model.norm.weight"] = tensors["model.norm.weight"].bfloat16()
        tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:250].clone()

    wrong = verify.compare(model, changed(model, tmp_path / "other", change)).wrong
    assert wrong == {
        "extra": "is only in the second",
        "lm_head.weight": "is only in the first",
        "model.norm.weight": "is torch.float32 in the first and torch.bfloat16 in the second",
        "model.embed_tokens.weight": "is (256, 32) in the first and (250, 32) in the second",
    }


def test_nan_is_a_difference(model, tmp_path):
    def change(tensors):
        tensors["model.norm.weight"][0] = float("nan")

    other = changed(model, tmp_path / "other", change)
    assert verify.compare(model, other).wrong == {"model.norm.weight": "differs by up to inf"}
    assert not verify.compare(other, other).wrong


def test_the_command_says_and_exits(model, tmp_path, capsys):
    verify.main([str(model), str(model)])
    assert "21 tensors are equal, 0 are not" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        verify.main([str(model), str(changed(model, tmp_path / "other", nudge))])
    assert "model.layers.1.mlp.up_proj.weight differs by up to 0.25" in capsys.readouterr().out


def test_what_cannot_be_compared(model, tmp_path):
    with pytest.raises(UserError, match="takes two folders, not 1"):
        verify.main([str(model)])
    with pytest.raises(UserError, match="is no Hugging Face folder"):
        verify.main([str(model), str(tmp_path)])
    with pytest.raises(UserError, match="export the checkpoint first"):
        verify.main([str(model), str(converted(model, tmp_path / "checkpoint")), "text=x"])
