"""The files beside the weights: damage is found before anything starts, and nothing is lost in the result."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from nemo_adapt import hf_tokenizer
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.model_config import read_config, read_shape
from nemo_adapt.hf_model.model_files import complete_folder
from nemo_adapt.hf_tokenizer.files import MODEL_NAMES
from nemo_adapt.run.checks import check
from nemo_adapt.tokenizer import extend
from nemo_adapt.tokenizer.base import read

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}

CODE = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def config_of(model):
    config = Config()
    config.model.path = str(model)
    return config


@pytest.mark.parametrize("content", ["{", "[1]", '{"suppress_tokens": 3}'])
def test_a_damaged_generation_config_is_found_before_anything_starts(model, content):
    check(config_of(model))
    (model / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=r"generation_config\.json is damaged") as error:
        check(config_of(model))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keys", [("dtype",), ("torch_dtype",), ("dtype", "torch_dtype")])
def test_every_dtype_in_config_json_is_that_of_the_export(model, tmp_path, keys):
    (model / "config.json").write_text(json.dumps({**LLAMA, **dict.fromkeys(keys, "float16")}))
    (tmp_path / "out").mkdir()
    complete_folder(tmp_path / "out", model, model, 512, torch.bfloat16, 512, 512)
    found = read_config(tmp_path / "out")
    assert {key: found[key] for key in ("dtype", "torch_dtype") if key in found} == dict.fromkeys(keys, "bfloat16")


def test_named_chat_templates_reach_the_export(model, tmp_path, data_folder):
    base = tmp_path / "base"
    (base / "additional_chat_templates").mkdir(parents=True)
    (base / "tokenizer.model").write_bytes((data_folder / "weights/stories260K/tokenizer.model").read_bytes())
    (base / "chat_template.jinja").write_text("default")
    (base / "additional_chat_templates/tool_use.jinja").write_text("tools")
    extended, out = tmp_path / "extended", tmp_path / "out"
    extended.mkdir()
    out.mkdir()
    extend.save(read(base), [], extended)
    complete_folder(out, model, extended, 512, torch.float32, 512, 512)
    for folder in (extended, out):
        assert AutoTokenizer.from_pretrained(str(folder)).chat_template == {"default": "default", "tool_use": "tools"}


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_tokenizer_s_model_of_any_name_reaches_the_export(model, tmp_path, name):
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / name).write_bytes(b"pieces")
    complete_folder(out, model, base, 512, torch.float32, 512, 512)
    assert (out / name).read_bytes() == b"pieces"


def test_a_tokenizer_with_spiece_model_alone_loads_from_the_export(model, tmp_path, data_folder):
    """As GPT-SW3's."""
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    (base / "spiece.model").write_bytes((data_folder / "tokenizers/llama2/tokenizer.model").read_bytes())
    complete_folder(out, model, base, 512, torch.float32, 512, 512)
    text = "Ağacın altında uyuyor."
    assert hf_tokenizer.load(out)(text)["input_ids"] == hf_tokenizer.load(base)(text)["input_ids"]


def test_the_export_names_no_code_that_it_does_not_have(model, tmp_path):
    """As of Phi-3, whose published folder has code of its own; ``trust_remote_code`` would look for it."""
    (model / "config.json").write_text(json.dumps({**LLAMA, "model_type": "llama", "auto_map": CODE}))
    (tmp_path / "out").mkdir()
    complete_folder(tmp_path / "out", model, model, 512, torch.float32, 512, 512)
    found = AutoConfig.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert (type(found).__name__, found.hidden_size) == ("LlamaConfig", 8)


@pytest.mark.parametrize(
    ("tokens", "kept", "suppressed"),
    [(510, 500, [3, 510, 511]), (512, 500, [3]), (510, 512, [3, 500, 511, 510, 511]), (512, 512, [3, 500, 511])],
)
def test_padding_of_the_base_that_is_new_tokens_now_is_not_suppressed(model, tmp_path, tokens, kept, suppressed):
    (model / "generation_config.json").write_text(json.dumps({"suppress_tokens": [3, 500, 511]}))
    (tmp_path / "out").mkdir()
    complete_folder(tmp_path / "out", model, model, 512, torch.float32, tokens, kept)
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["suppress_tokens"] == suppressed


def test_errors_about_config_json_name_its_folder(model):
    """``verify`` and ``compare`` read several."""
    (model / "config.json").write_text(json.dumps({**LLAMA, "hidden_act": "relu"}))
    with pytest.raises(UserError) as error:
        read_shape(model)
    assert str(error.value).startswith(f"{model}/config.json: hidden_act='relu' is not covered")
    (model / "config.json").write_text(json.dumps({"architectures": "LlamaForCausalLM"}))
    with pytest.raises(UserError) as error:
        read_config(model)
    assert str(error.value).startswith(f"{model}/config.json: architectures=")
