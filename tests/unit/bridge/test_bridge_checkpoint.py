"""The checkpoint folder for Megatron-Bridge, as Bridge 0.3.1 reads it, and which models are supported."""

import json

import pytest
import torch
import yaml
from helpers import zoo
from helpers.bytes_tokenizer import save_tokenizer
from helpers.tiny import TinyLlama, converted, make_llama, make_token_map

from nemo_adapt import families, verify
from nemo_adapt.bridge import export_command
from nemo_adapt.bridge.provider import PROVIDERS, provider
from nemo_adapt.errors import UserError


@pytest.fixture
def words(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama(), torch.bfloat16)
    save_tokenizer(tmp_path / "tokenizer")
    converted(model, tmp_path / "all" / "iter_0000120")
    return [f"checkpoint={tmp_path / 'all'}", f"model={model}", f"tokenizer={tmp_path / 'tokenizer'}"]


def test_the_folder_has_bridge_s_layout(words, tmp_path, capsys):
    out = tmp_path / "out"
    export_command.main([*words, f"out={out}", "pad_vocab_to=128"])
    place = out / "iter_0000120"
    assert (out / "latest_checkpointed_iteration.txt").read_text() == "120"
    for state in (out / "latest_train_state.pt", place / "train_state.pt"):
        found = torch.load(state, weights_only=True)
        assert found["step"] == 120 and found["consumed_train_samples"] == 0 and not found["do_train"]
    common = torch.load(place / "common.pt", weights_only=True)
    assert common["iteration"] == 120 and common["content_metadata"]["singleton_local_shards"] is False
    assert json.loads((place / "metadata.json").read_text())["sharded_backend"] == "torch_dist"
    config = yaml.safe_load((place / "run_config.yaml").read_text())
    model = config["model"]
    assert (model["num_layers"], model["vocab_size"], model["make_vocab_size_divisible_by"]) == (2, 256, 128)
    assert model["bf16"] and model["params_dtype"] == {"_target_": "torch.bfloat16", "_call_": False}
    assert config["checkpoint"] == {"save_optim": False, "save_rng": False, "fully_parallel_save": True}
    assert config["tokenizer"]["tokenizer_model"] == str(place / "tokenizer")
    assert (place / "tokenizer" / "tokenizer.json").is_file()
    assert not verify.compare(tmp_path / "all" / "iter_0000120", place).wrong
    export_command.main([*words, f"out={out}", "pad_vocab_to=128"])
    assert "finished before" in capsys.readouterr().out


def test_tables_with_new_tokens_are_exported_without_padded_rows(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama(vocab=256))
    longer = make_llama(tmp_path / "longer", TinyLlama(vocab=384))  # 300 tokens and padding
    make_token_map(tmp_path / "tokenizer", 256, 44)
    converted(longer, tmp_path / "checkpoint")
    words = [f"checkpoint={tmp_path / 'checkpoint'}", f"model={model}", f"tokenizer={tmp_path / 'tokenizer'}"]
    export_command.main([*words, f"out={tmp_path / 'out'}"])
    config = yaml.safe_load((tmp_path / "out" / "iter_0000000" / "run_config.yaml").read_text())
    assert config["model"]["vocab_size"] == 300 and config["model"]["make_vocab_size_divisible_by"] == 1
    found = verify.compare(tmp_path / "checkpoint", tmp_path / "out" / "iter_0000000")
    assert sorted(found.wrong) == ["embedding.word_embeddings.weight", "output_layer.weight"]
    assert "(384, 32) in the first and (300, 32) in the second" in found.wrong["output_layer.weight"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"checkpoint": ""}, "no value for checkpoint"),
        ({"checkpoint": "nowhere"}, "is not a complete Megatron checkpoint"),
        ({"tokenizer": "nowhere"}, "tokenizer=nowhere does not exist"),
        ({"pad_vocab_to": "0"}, "must be at least 1"),
    ],
)
def test_invalid_arguments_are_refused(words, tmp_path, changed, says):
    given = dict(word.split("=", 1) for word in [*words, f"out={tmp_path / 'out'}"])
    with pytest.raises(UserError, match=says):
        export_command.main([f"{key}={value}" for key, value in {**given, **changed}.items()])
    assert not (tmp_path / "out").exists()


def settings_of(name):
    made = zoo.ZOO[name]()
    config = {**made.to_dict(), "architectures": zoo.architectures(name)}
    family = families.of(config)
    return provider(family, family.shape(config), torch.float32)


def test_family_settings_are_passed_to_bridge():
    assert settings_of("qwen2")["add_qkv_bias"] and settings_of("qwen3")["qk_layernorm"]
    assert settings_of("mistral")["window_size"] == [8, 0]
    assert settings_of("llama, rope stretched")["seq_len_interpolation_factor"] == 4.0
    assert settings_of("llama with one key-value head")["share_embeddings_and_output_weights"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gemma2", f"gemma2 models are not covered .covered: {', '.join(PROVIDERS)}"),
        ("gpt2", "gpt2 models are not covered"),
        ("qwen2 with a window", "no attention windows for qwen2"),
        ("qwen2 with yarn", "rope scaling 'yarn' is not covered"),
        ("llama 3.1's rope", "original_max_position_embeddings=16 is not covered, only 8192"),
    ],
)
def test_models_that_bridge_does_not_support_are_refused(name, says):
    with pytest.raises(UserError, match=says):
        settings_of(name)
