"""Weights that are not those of config.json: tied models that also store an output table."""

import shutil

import pytest
import torch
from helpers import zoo
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map
from safetensors.torch import load_file, save_file

from nemo_adapt import convert, verify
from nemo_adapt.checkpoint import tables
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.checkpoint.weight_checks import check_weights
from nemo_adapt.config import Config, ExportConfig, ResizeConfig
from nemo_adapt.errors import UserError
from nemo_adapt.export import export_checkpoint
from nemo_adapt.families.family import EMBEDDING, OUTPUT_LAYER
from nemo_adapt.hf_model.model_config import read_shape
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


@pytest.mark.parametrize("name", ["llama with one key-value head", "gpt2", "gpt_neox without parallel layers"])
def test_a_tied_model_may_store_its_table_as_the_output_layer_s(tmp_path, name):
    """As some programs save it; transformers loads it alike."""
    model, stored = zoo.make(tmp_path / "model", name), tmp_path / "stored"
    shutil.copytree(model, stored)
    before = load_file(model / "model.safetensors")
    family, shape = read_shape(model)
    table = next(entry.rows[0].name for entry in family.entries(shape) if entry.key == EMBEDDING)
    moved = {**before, family.output_table: before[table]}
    del moved[table]
    save_file(moved, stored / "model.safetensors", {"format": "pt"})

    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    (tmp_path / "out").mkdir()
    (tmp_path / "resized").mkdir()
    check_weights(stored, None)
    checkpoint = converted(stored, tmp_path / "checkpoint")
    export_checkpoint(checkpoint, stored, tmp_path / "tokenizer", tmp_path / "out", ExportConfig())
    resize_folder(StrategyInputs(stored, {}), tmp_path / "tokenizer", tmp_path / "resized", ResizeConfig(), 1)
    for folder in (tmp_path / "out", tmp_path / "resized"):
        after = load_file(folder / "model.safetensors")
        assert after.keys() == before.keys() and all(torch.equal(after[each], before[each]) for each in before)
    for first, second in ((model, stored), (stored, model), (stored, checkpoint)):
        assert not verify.compare(first, second).wrong
    assert torch.equal(tables.of_folder(stored)["input"].read(0, zoo.VOCAB), before[table])


def test_a_tensor_of_another_shape_is_one_line_with_advice(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama())
    tensors = load_file(model / "model.safetensors")
    tensors[TABLE] = tensors[TABLE][:-1].clone()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"tensor {TABLE} is \(255, .* says \(256, .*: download both again"):
        check_weights(model, None)


def test_an_untied_model_needs_both_tables(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama())
    tensors = load_file(model / "model.safetensors")
    del tensors[TABLE]
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"1 tensors are missing: {TABLE}"):
        check_weights(model, None)
    with pytest.raises(UserError, match=rf"tensor {TABLE} is missing"):
        tables.of_folder(model)


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
