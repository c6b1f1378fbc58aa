"""Every family: a bit-identical round trip, and transformers' logits and gradients, in every layout."""

import json
import math
import os

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders, assert_same, exported
from helpers.tiny import converted, make_token_map, tiny_config
from ranks import family_bodies, model_bodies
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nemo_adapt import families
from nemo_adapt.families.entries import parameter_names
from nemo_adapt.hf_model.model_config import read_shape

LAYOUTS = {
    "one rank": {},
    "TP 2": {"tp": 2},
    "TP 2 with sequence parallelism": {"tp": 2, "sequence": True},
    "TP 4": {"tp": 4},
    "PP 2": {"pp": 2},
    "CP 2": {"cp": 2},
}
IDS = torch.randint(3, zoo.VOCAB, (2, 33), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=zoo.ZOO)
def model(request, tmp_path_factory):
    """Return the folders of a family's model, and transformers' logits and gradients."""
    place = tmp_path_factory.mktemp("family")
    folder = zoo.make(place / "model", request.param)
    make_token_map(place / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(folder, converted(folder, place / "convert"), place / "tokenizer")
    return folders, *zoo.reference(folder, IDS)


def other_name(name):
    """Return the name of a norm without Transformer Engine's layers for the one with them, and the reverse; else ""."""
    pairs = (
        ("self_attention.linear_qkv.layer_norm_", "input_layernorm."),
        ("mlp.linear_fc1.layer_norm_", "pre_mlp_layernorm."),
    )
    for theirs, ours in pairs:
        if theirs in name or ours in name:
            return name.replace(theirs, ours) if theirs in name else name.replace(ours, theirs)
    return ""


def test_names_of_parameters_are_known_without_a_model(model, ranks):
    """Patterns of ``train.no_weight_decay`` are compared with them before anything starts."""
    folders = model[0]
    family, shape = read_shape(folders.model)
    known = set(parameter_names(family.entries(shape), shape.layers))
    (found,) = ranks(1).run(model_bodies.names, tiny_config(), folders)
    assert found <= known
    assert all(other_name(name) in found for name in known - found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_round_trip_logits_and_gradients_match_transformers(model, layout, ranks, tmp_path):
    folders, logits, gradients = model
    parallel = LAYOUTS[layout]
    saved, found = tmp_path / "saved", tmp_path / "gradients"
    saved.mkdir()
    found.mkdir()
    pool = ranks(math.prod(parallel.get(name, 1) for name in ("tp", "pp", "cp")))
    ours = pool.run(family_bodies.logits_and_gradients, tiny_config(**parallel), folders, IDS, saved, found)[-1]
    torch.testing.assert_close(ours[..., : zoo.VOCAB], logits, rtol=0, atol=1e-5)
    assert (ours[..., zoo.VOCAB :] == float("-inf")).all()

    before = load_file(folders.model / "model.safetensors")
    assert_same(before, exported(folders, saved, tmp_path / "out"))

    ours = exported(folders, found, tmp_path / "out_gradients")
    assert ours.keys() == before.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name in gradients:  # constants have none
        torch.testing.assert_close(ours[name], gradients[name], rtol=0, atol=1e-4 * largest, msg=name)


@pytest.mark.parametrize("model", ["gemma3", "olmo3", "exaone4", "smollm3", "cohere2"], indirect=True)
def test_layers_of_unequal_stages_have_their_own_windows_and_positions(model, ranks, tmp_path):
    folders, logits, _ = model
    places = [tmp_path / name for name in ("saved", "gradients")]
    for place in places:
        place.mkdir()
    config = tiny_config(pp=2, stage_layers=[1, 3])
    ours = ranks(2).run(family_bodies.logits_and_gradients, config, folders, IDS, *places)[-1]
    torch.testing.assert_close(ours[..., : zoo.VOCAB], logits, rtol=0, atol=1e-5)
    assert_same(load_file(folders.model / "model.safetensors"), exported(folders, places[0], tmp_path / "out"))


@pytest.mark.skipif("NEMO_ADAPT_STANDIN" in os.environ, reason="its attention is no GPU's")
def test_bf16_logits_are_as_accurate_as_those_of_transformers(model, ranks):
    """Both round intermediate results to 8 bits of mantissa, at different places: errors must be similar."""
    folders, logits, _ = model
    theirs = AutoModelForCausalLM.from_pretrained(folders.model, dtype=torch.bfloat16, attn_implementation="eager")
    with torch.no_grad():
        their_error = (theirs(IDS[:, :-1]).logits.float() - logits).abs().max()
    config = tiny_config()
    config.train.precision = "bf16"
    ours = ranks(1).run(model_bodies.logits, config, folders, IDS[:, :-1])[0]
    assert ours.dtype == torch.bfloat16
    assert (ours[..., : zoo.VOCAB].float() - logits).abs().max() < 1.5 * their_error


def test_check_detects_two_swapped_rows_of_a_projection(ranks, tmp_path):
    """Negative control: the smallest mistake that a family's table could make."""
    folder = zoo.make(tmp_path / "model", "llama")
    logits, _ = zoo.reference(folder, IDS)
    tensors, name = load_file(folder / "model.safetensors"), "model.layers.1.self_attn.q_proj.weight"
    tensors[name] = tensors[name][[1, 0, *range(2, len(tensors[name]))]]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(folder, converted(folder, tmp_path / "convert"), tmp_path / "tokenizer")
    ours = ranks(1).run(model_bodies.logits, tiny_config(), folders, IDS[:, :-1])[0]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours[..., : zoo.VOCAB], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["gemma", "bloom", "xglm", "phi", "cohere", "nemotron"])
def test_bf16_round_trip_is_bit_identical(name, ranks, tmp_path):
    """Through the model, not only the files: of a norm that multiplies by 1 + w, w is kept."""
    folder = zoo.make(tmp_path / "model", name, torch.bfloat16)
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(folder, converted(folder, tmp_path / "convert"), tmp_path / "tokenizer")
    config = tiny_config()
    config.train.precision = "bf16"
    (tmp_path / "saved").mkdir()
    ranks(1).run(model_bodies.save, config, folders, tmp_path / "saved")
    after = exported(folders, tmp_path / "saved", tmp_path / "out")
    assert {tensor.dtype for tensor in after.values()} == {torch.bfloat16}
    assert_same(load_file(folder / "model.safetensors"), after)


def test_published_gpt2_tensor_names_are_read(tmp_path):
    """Published files omit the prefix ``transformer.`` and contain attention masks."""
    folder = zoo.make(tmp_path / "model", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    save_file(bare, folder / "model.safetensors", {"format": "pt"})
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(folder, converted(folder, tmp_path / "convert"), tmp_path / "tokenizer")
    after = exported(folders, folders.checkpoint, tmp_path / "out")
    assert after.keys() == tensors.keys() and all(torch.equal(after[name], tensors[name]) for name in tensors)


def test_every_family_is_in_the_zoo():
    kinds = {json.loads(zoo.ZOO[name]().to_json_string(use_diff=False))["model_type"] for name in zoo.ZOO}
    assert kinds == set(families.names())
