"""Reading config.json: both spellings, what is refused, and the frequencies of rotary positions."""

import json

import pytest
import torch
from helpers import zoo
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nemo_adapt import families
from nemo_adapt.config import ParallelConfig
from nemo_adapt.errors import UserError
from nemo_adapt.hf_folder import complete_folder
from nemo_adapt.layout import check_layout
from nemo_adapt.model.rotary import inverse_frequencies


def config_of(name: str, **changed: object) -> dict:
    """config.json as transformers 5 writes it."""
    return {**json.loads(zoo.ZOO[name]().to_json_string(use_diff=True)), **changed}


def older(config: dict) -> dict:
    """The same as transformers 4 wrote it."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types", "dtype")}
    rope = dict(config.get("rope_parameters") or {})
    old["rope_theta"] = rope.pop("rope_theta", 10_000.0)
    old["partial_rotary_factor"] = rope.pop("partial_rotary_factor", 1.0)
    kind = rope.pop("rope_type", "default")
    old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return old


@pytest.mark.parametrize("name", zoo.ZOO)
def test_both_spellings_are_one_shape(name):
    config = config_of(name, architectures=zoo.architectures(name))
    family = families.of(config)
    assert family.shape(config) == family.shape(older(config))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_an_exported_config_says_the_same_to_both(name, tmp_path):
    """transformers 4 passes over ``rope_parameters`` and would turn by its defaults; 5 keeps what the base says."""
    config = config_of(name, architectures=zoo.architectures(name))
    for folder, content in (("base", config), ("tokenizer", None), ("out", None)):
        (tmp_path / folder).mkdir()
        if content is not None:
            (tmp_path / folder / "config.json").write_text(json.dumps(content))
    complete_folder(tmp_path / "out", tmp_path / "base", tmp_path / "tokenizer", zoo.VOCAB, torch.float32, zoo.VOCAB)
    written = json.loads((tmp_path / "out/config.json").read_text())
    for_four = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert families.of(config).shape(for_four) == families.of(config).shape(config)
    for_five = AutoConfig.from_pretrained(tmp_path / "out")
    rope = getattr(zoo.ZOO[name](), "rope_parameters", None)
    assert getattr(for_five, "rope_parameters", None) == rope


REFUSED = {
    "llama": ({"attention_bias": True}, "attention_bias=True is not covered for Llama"),
    "mistral": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Mistral"),
    "qwen2": ({"hidden_act": "relu"}, "hidden_act='relu' is not covered for Qwen2"),
    "qwen3": ({"attention_bias": True}, "attention_bias=True is not covered for Qwen3"),
    "gemma": ({"hidden_act": "silu"}, "hidden_act='silu' is not covered for Gemma"),
    "gemma2": ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not covered for Gemma2"),
    "phi3": ({"rope_parameters": {"rope_type": "longrope"}}, "rope scaling 'longrope' is not covered for Phi-3"),
    "olmo2": ({"attention_bias": True}, "attention_bias=True is not covered for OLMo-2"),
    "gpt2": (
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx=True is not covered for GPT-2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_is_not_covered_is_named(name):
    changed, said = REFUSED[name]
    config = config_of(name, architectures=zoo.architectures(name), **changed)
    with pytest.raises(UserError, match=said):
        families.of(config).shape(config)


def test_the_first_gemma_files_name_another_activation():
    config = config_of("gemma", architectures=["GemmaForCausalLM"], hidden_act="gelu")
    assert families.of(config).shape(config).activation == "gelu_tanh"


@pytest.mark.parametrize("name", ["llama", "llama 3.1's rope", "llama, rope stretched", "phi3, half turned"])
def test_frequencies_are_transformers(name):
    config = zoo.ZOO[name]()
    shape = families.of(config_of(name, architectures=zoo.architectures(name))).shape(config_of(name))
    found = inverse_frequencies(shape.rotary, shape.head_dim, torch.device("cpu"))
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        columns = int(shape.head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0))
        expected = 1.0 / 10_000.0 ** (torch.arange(0, columns, 2).float() / columns)
    else:
        expected, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_ranks_may_share_a_key_value_head():
    config = config_of("llama", architectures=["LlamaForCausalLM"])
    check_layout(families.of(config).shape(config), ParallelConfig(tp=4))
    olmo = config_of("olmo2", architectures=["Olmo2ForCausalLM"], num_key_value_heads=2)
    with pytest.raises(UserError, match="tp=4 does not divide the model's 2 key-value heads"):
        check_layout(families.of(olmo).shape(olmo), ParallelConfig(tp=4))
