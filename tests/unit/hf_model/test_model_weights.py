"""Weights that are not those of config.json: tied models that also store an output table."""

import pytest
import torch
from helpers.tiny import TinyLlama, make_llama, make_token_map
from safetensors.torch import load_file, save_file

from nemo_adapt import convert
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import Config, ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import OUTPUT_LAYER
from nemo_adapt.hf_model.model_weights import check_weights
from nemo_adapt.resize.offline import resize_folder
from nemo_adapt.resize.strategy_inputs import StrategyInputs

TABLE = "model.embed_tokens.weight"


@pytest.fixture(params=[0.0, 1.0])
def folder(request, tmp_path):
    """A tied model whose output table is stored too: the same, and with one number that differs."""
    model = make_llama(tmp_path / "model", TinyLlama(tied=True))
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors[TABLE].clone()
    tensors["lm_head.weight"][-1, -1] += request.param
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    return model, request.param


def test_an_output_table_that_differs_from_the_input_table_is_refused(folder, tmp_path):
    """It had been left out, and the exported model was another one."""
    model, difference = folder
    make_token_map(tmp_path / "tokenizer", 256, 0)
    (tmp_path / "resized").mkdir()
    (tmp_path / "checkpoint").mkdir()
    for use in (
        lambda: check_weights(model, None),
        lambda: convert.build(Config(), {"model": [model]}, tmp_path / "checkpoint"),
        lambda: resize_folder(
            StrategyInputs(model, {}), tmp_path / "tokenizer", tmp_path / "resized", ResizeConfig(), 1
        ),
    ):
        if difference:
            with pytest.raises(UserError, match=r"lm_head.weight is model.embed_tokens.weight, but they differ"):
                use()
        else:
            use()


def test_a_checkpoint_with_an_output_table_is_refused_for_a_tied_model(tmp_path):
    places = {}
    for tied in (True, False):
        places[tied] = make_llama(tmp_path / str(tied), TinyLlama(tied=tied))
    (tmp_path / "untied").mkdir()
    convert.build(Config(), {"model": [places[False]]}, tmp_path / "untied")
    assert OUTPUT_LAYER in Checkpoint(tmp_path / "untied").shapes
    (tmp_path / "copy").mkdir()
    refused = r"has an output table, but .* says it is tied"
    with pytest.raises(UserError, match=refused):
        check_weights(places[True], tmp_path / "untied")
    check_weights(places[False], tmp_path / "untied")
    with pytest.raises(UserError, match=refused):
        convert.build(Config(), {"model": [places[True]], "weights": [tmp_path / "untied"]}, tmp_path / "copy")
    convert.build(Config(), {"model": [places[False]], "weights": [tmp_path / "untied"]}, tmp_path / "copy")
    assert torch.equal(*(Checkpoint(tmp_path / name).rows(OUTPUT_LAYER, 0, 256) for name in ("untied", "copy")))
