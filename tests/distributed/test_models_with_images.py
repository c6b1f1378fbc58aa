"""Gemma 3, Mistral Small 3 and Ministral 3 with an image tower: their language model alone is adapted and exported."""

import json

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders
from helpers.tiny import converted, make_token_map, tiny_config
from ranks import model_bodies
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Mistral3Config,
    PixtralVisionConfig,
    SiglipVisionConfig,
)

from nemo_adapt import families
from nemo_adapt.config import ExportConfig, ResizeConfig
from nemo_adapt.export import export_checkpoint
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.resize.offline import resize_folder
from nemo_adapt.resize.strategy_inputs import StrategyInputs

IDS = torch.randint(3, zoo.VOCAB, (2, 32), generator=torch.Generator().manual_seed(1))
PREFIX, HEAD = "language_model.model.", "language_model.lm_head."
OWN = (PREFIX, HEAD)
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def gemma3(text):
    vision = SiglipVisionConfig(**SMALL, image_size=28, patch_size=14)
    return Gemma3Config(text_config=text, vision_config=vision.to_dict(), mm_tokens_per_image=1)


def mistral3(text):
    vision = PixtralVisionConfig(**SMALL, image_size=28, patch_size=14)
    tied = text["tie_word_embeddings"]
    return Mistral3Config(text_config=text, vision_config=vision.to_dict(), tie_word_embeddings=tied)


KINDS = {"gemma3": gemma3, "mistral": mistral3, "ministral3": mistral3}
"""The language model's configuration in the zoo -> that of the whole model."""


@pytest.fixture(scope="module", params=KINDS)
def base(tmp_path_factory, request):
    """Return the folder of a model, and the logits that it gives to a text."""
    folder = tmp_path_factory.mktemp("images") / "base"
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(KINDS[request.param](zoo.ZOO[request.param]().to_dict()))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
        return folder, model.eval()(IDS).logits


def renamed(base, folder, own_prefix):
    """Copy the model with ``own_prefix`` before the names of its language model, as other versions write it."""
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    tensors = load_file(base / "model.safetensors")
    assert any(name.startswith(PREFIX) for name in tensors)
    outer = own_prefix.removesuffix("language_model.")
    changed = {}
    for name, tensor in tensors.items():
        of_text = own_prefix + name.removeprefix(PREFIX) if name.startswith(PREFIX) else outer + name
        changed["lm_head." + name.removeprefix(HEAD) if name.startswith(HEAD) else of_text] = tensor
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


def text_only(folder):
    """The tensors of a model's language model, by the names that it has alone."""
    tensors = load_file(folder / "model.safetensors")
    return {name.removeprefix("language_model."): each for name, each in tensors.items() if name.startswith(OWN)}


@pytest.mark.parametrize("prefix", [PREFIX, "model.language_model."])
def test_the_language_model_is_converted_and_exported(base, ranks, prefix, tmp_path, capsys):
    folder, logits = base
    given = folder if prefix == PREFIX else renamed(folder, tmp_path / "base", prefix)
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(given, converted(given, tmp_path / "convert"), tmp_path / "tokenizer")
    others = sum(not name.startswith(OWN) for name in load_file(folder / "model.safetensors"))
    assert others and f"left out {others} tensors that do not belong to the language model" in capsys.readouterr().out
    ours = ranks(2).run(model_bodies.logits, tiny_config(tp=2), folders, IDS)[0]
    torch.testing.assert_close(ours[..., : zoo.VOCAB], logits, rtol=0, atol=1e-5)

    out = tmp_path / "out"
    out.mkdir()
    export_checkpoint(folders.checkpoint, given, folders.tokenizer, out, ExportConfig())
    before, after = text_only(folder), load_file(out / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    check_exported(out, logits)


def check_exported(out, logits):
    """The folder is that of a language model, with which transformers gives the same logits."""
    written = json.loads((out / "config.json").read_text())
    assert "vision_config" not in written
    model = AutoModelForCausalLM.from_pretrained(out)
    assert [type(model).__name__] == written["architectures"] and written["architectures"][0].endswith("ForCausalLM")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits[..., : zoo.VOCAB], logits, rtol=0, atol=1e-5)


def test_resize_hf_writes_the_language_model(base, tmp_path):
    folder, logits = base
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 6)
    (tmp_path / "out").mkdir()
    resize_folder(StrategyInputs(folder), tmp_path / "tokenizer", tmp_path / "out", ResizeConfig(), 1 << 10)
    check_exported(tmp_path / "out", logits)


def test_settings_that_published_files_leave_out_are_those_of_transformers(tmp_path):
    """The published text_config names only what differs from transformers' defaults, and a scaled rotary in its own
    place."""
    config = {**gemma3(zoo.ZOO["gemma3"]().to_dict()).to_dict(), "architectures": ["Gemma3ForConditionalGeneration"]}
    kept = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    scaled = {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    config["text_config"] = {**kept, **scaled, "model_type": "gemma3_text"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_config(tmp_path)
    family = families.of(found)
    shape = family.shape(found)
    theirs = Gemma3Config.from_pretrained(tmp_path).text_config
    assert (shape.vocab, shape.heads, shape.kv_heads, shape.head_dim, shape.max_positions, shape.tied) == (
        theirs.vocab_size,
        theirs.num_attention_heads,
        theirs.num_key_value_heads,
        theirs.head_dim,
        theirs.max_position_embeddings,
        True,
    )
    assert shape.windows == tuple(1024 * (kind == "sliding_attention") for kind in theirs.layer_types)
    everywhere, local = (theirs.rope_parameters[kind] for kind in ("full_attention", "sliding_attention"))
    assert (shape.rotary.base, shape.rotary.scaling) == (everywhere["rope_theta"], {"linear": everywhere["factor"]})
    assert (shape.rotaries[0].base, shape.rotaries[0].scaling) == (local["rope_theta"], {})
