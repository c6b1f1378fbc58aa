"""Reading config.json: the formats of transformers 4 and 5, what is refused, and rotary frequencies."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from helpers import zoo
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Cohere2Config,
    CohereConfig,
    HunYuanDenseV1Config,
    LlamaConfig,
    NemotronConfig,
    Olmo3Config,
    Phi3Config,
    Qwen2Config,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense import HunYuanDenseV1RotaryEmbedding
from transformers.models.olmo3.modeling_olmo3 import Olmo3RotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from nemo_adapt import families
from nemo_adapt.config import ParallelConfig
from nemo_adapt.config.layout import beyond_trained, check_layout, check_positions
from nemo_adapt.errors import UserError
from nemo_adapt.families.settings import older_rope
from nemo_adapt.hf_model.model_config import read_config, read_shape
from nemo_adapt.hf_model.model_files import complete_folder
from nemo_adapt.model.rotary import inverse_frequencies


def config_of(name: str, **changed: object) -> dict:
    """config.json as transformers 5 writes it."""
    return {**json.loads(zoo.ZOO[name]().to_json_string(use_diff=True)), **changed}


def older(config: dict) -> dict:
    """The same configuration as transformers 4 wrote it."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types", "dtype")}
    rope = dict(config.get("rope_parameters") or {})
    if "full_attention" in rope:  # Gemma 3
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = dict(rope["full_attention"])
    if config["model_type"] in ("ministral", "granitemoehybrid"):  # which transformers 4 got with them
        old["layer_types"] = config["layer_types"]
    old["rope_theta"] = rope.pop("rope_theta", 10_000.0)
    old["partial_rotary_factor"] = rope.pop("partial_rotary_factor", 1.0)
    if config["model_type"] == "gpt_neox":
        old["rotary_emb_base"], old["rotary_pct"] = old.pop("rope_theta"), old.pop("partial_rotary_factor")
    kind = rope.pop("rope_type", "default")
    name = "rope_type" if config["model_type"] in ("gemma3_text", "olmo3") else "type"
    old["rope_scaling"] = None if kind == "default" else {name: kind, **rope}
    return old


@pytest.mark.parametrize("name", zoo.ZOO)
def test_both_formats_of_config_json_give_the_same_shape(name):
    config = config_of(name, architectures=zoo.architectures(name))
    family = families.of(config)
    assert family.shape(config) == family.shape(older(config))


SIZES = (zoo.VOCAB, torch.float32, zoo.VOCAB, zoo.VOCAB)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_an_exported_config_is_read_alike_by_transformers_4_and_5(name, tmp_path):
    """transformers 4 ignores ``rope_parameters`` and would use its defaults; 5 finds the values of the base."""
    config = config_of(name, architectures=zoo.architectures(name))
    for folder, content in (("base", config), ("tokenizer", None), ("out", None)):
        (tmp_path / folder).mkdir()
        if content is not None:
            (tmp_path / folder / "config.json").write_text(json.dumps(content))
    complete_folder(tmp_path / "out", tmp_path / "base", tmp_path / "tokenizer", *SIZES)
    written = json.loads((tmp_path / "out/config.json").read_text())
    for_four = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert families.of(config).shape(for_four) == families.of(config).shape(config)
    assert "full_attention" not in written.get("layer_types", []) or name != "granitemoehybrid"  # which 4 refuses
    for_five = AutoConfig.from_pretrained(tmp_path / "out")
    assert getattr(for_five, "layer_types", None) == getattr(zoo.ZOO[name](), "layer_types", None)
    rope = getattr(zoo.ZOO[name](), "rope_parameters", None)
    assert getattr(for_five, "rope_parameters", None) == rope


@pytest.mark.parametrize("left_out", ["max_position_embeddings", "num_key_value_heads"])
@pytest.mark.parametrize("name", zoo.ZOO)
def test_what_config_json_leaves_out_is_what_transformers_takes(name, left_out):
    config = config_of(name, architectures=zoo.architectures(name))
    shorter = {key: value for key, value in config.items() if key != left_out}
    complete = {**type(zoo.ZOO[name]()).from_dict(dict(shorter)).to_dict(), "architectures": config["architectures"]}
    assert families.of(config).shape(shorter) == families.of(config).shape(complete)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_kind_of_scaling_under_its_older_name_is_exported(name):
    """``type`` for ``rope_type``, which transformers 5 reads in ``rope_parameters`` too."""
    scaled = {"rope_theta": 5000.0, "type": "linear", "factor": 2.0}
    rope = {"full_attention": scaled, "sliding_attention": {"rope_theta": 100.0}} if name == "gemma3" else scaled
    config = config_of(name, architectures=zoo.architectures(name), rope_parameters=rope)
    complete = type(zoo.ZOO[name]()).from_dict(json.loads(json.dumps(config))).to_dict()
    shape = families.of(config).shape(config)
    assert shape.rotary.scaling and shape == families.of(config).shape({**config, **complete})
    written = {**config, **older_rope(config), "rope_parameters": None}
    assert families.of(config).shape(written) == shape


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_rope_scaling_beside_rope_parameters_counts_as_in_transformers(name, tmp_path):
    """As in a folder of transformers 5 into whose config.json a scaling was written by hand."""
    changed = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    config = config_of(name, architectures=zoo.architectures(name), **changed)
    complete = {**type(zoo.ZOO[name]()).from_dict(config_of(name, **changed)).to_dict()}
    complete["architectures"] = config["architectures"]
    assert families.of(config).shape(config) == families.of(config).shape(complete)
    for_four = {**config, **older_rope(config), "rope_parameters": None}
    assert families.of(config).shape(for_four) == families.of(config).shape(config)


GENERAL_NAMES = {
    "gpt2": {"hidden_size": 96, "num_hidden_layers": 5, "num_attention_heads": 12, "max_position_embeddings": 80},
    "bloom": {"n_embed": 96, "num_hidden_layers": 5, "num_attention_heads": 12},
    "xglm": {"hidden_size": 96, "num_hidden_layers": 5, "num_attention_heads": 12},
}


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("name", GENERAL_NAMES)
def test_general_names_of_sizes_count_as_in_transformers(name, both):
    """Beside the family's own names, with which they disagree, and in their place."""
    config = config_of(name, architectures=zoo.architectures(name))
    kind = type(zoo.ZOO[name]())
    own = [kind.attribute_map.get(general, "hidden_size") for general in GENERAL_NAMES[name]]
    given = {**{key: value for key, value in config.items() if both or key not in own}, **GENERAL_NAMES[name]}
    theirs = kind.from_dict(dict(given)).to_dict()
    for key in GENERAL_NAMES[name]:
        theirs.pop(key, None)
    complete = {**theirs, "architectures": config["architectures"]}
    assert complete != {**complete, **{key: config[key] for key in own}}, "nothing was changed"
    assert families.of(config).shape(given) == families.of(config).shape(complete)


REFUSED = {
    "llama": ({"attention_bias": True}, "attention_bias=True is not covered for Llama"),
    "mistral": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Mistral"),
    "ministral3": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Ministral3"),
    "exaone4": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for EXAONE-4"),
    "seed_oss": ({"attention_out_bias": True}, "attention_out_bias=True is not covered for Seed-OSS"),
    "arcee": ({"mlp_bias": True}, "mlp_bias=True is not covered for Arcee"),
    "jais2": ({"attention_bias": False}, "attention_bias=False is not covered for Jais-2"),
    "qwen2": ({"hidden_act": "relu"}, "hidden_act='relu' is not covered for Qwen2"),
    "qwen3": ({"attention_bias": True}, "attention_bias=True is not covered for Qwen3"),
    "gemma": ({"hidden_act": "silu"}, "hidden_act='silu' is not covered for Gemma"),
    "gemma2": ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not covered for Gemma2"),
    "gemma3": ({"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not covered for Gemma3"),
    "phi": ({"qk_layernorm": True}, "qk_layernorm=True is not covered for Phi"),
    "phi3": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Phi-3"),
    "olmo2": ({"attention_bias": True}, "attention_bias=True is not covered for OLMo-2"),
    "olmo3": ({"attention_bias": True}, "attention_bias=True is not covered for OLMo-3"),
    "smollm3": ({"mlp_bias": True}, "mlp_bias=True is not covered for SmolLM3"),
    "gpt2": (
        {"scale_attn_by_inverse_layer_idx": True},
        "scale_attn_by_inverse_layer_idx=True is not covered for GPT-2",
    ),
    "glm": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for GLM"),
    "glm4": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for GLM-4"),
    "hunyuan_v1_dense": ({"attention_bias": True}, "attention_bias=True is not covered for Hunyuan"),
    "ernie4_5": ({"use_bias": True}, "use_bias=True is not covered for ERNIE-4.5"),
    "starcoder2": ({"use_bias": False}, "use_bias=False is not covered for StarCoder2"),
    "granite": ({"attention_bias": True}, "attention_bias=True is not covered for Granite"),
    "granitemoehybrid": ({"num_local_experts": 8}, "num_local_experts=8 is not covered for Granite 4"),
    "cohere": ({"attention_bias": True}, "attention_bias=True is not covered for Cohere"),
    "cohere2": ({"attention_bias": True}, "attention_bias=True is not covered for Cohere2"),
    "nemotron": ({"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Nemotron"),
    "gpt_neox": ({"attention_bias": False}, "attention_bias=False is not covered for GPT-NeoX"),
    "falcon": ({"alibi": True}, "alibi=True is not covered for Falcon"),
    "bloom": (
        {"apply_residual_connection_post_layernorm": True},
        "apply_residual_connection_post_layernorm=True is not covered for BLOOM",
    ),
    "xglm": ({"add_cross_attention": True}, "add_cross_attention=True is not covered for XGLM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsupported_setting_is_named(name):
    changed, said = REFUSED[name]
    config = config_of(name, architectures=zoo.architectures(name), **changed)
    with pytest.raises(UserError, match=said):
        families.of(config).shape(config)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("llama", {"pretraining_tp": 2, "attention_dropout": 0.1}),
        ("phi3", {"attention_dropout": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}),
        ("gpt2", {"reorder_and_upcast_attn": True}),
    ],
)
def test_what_only_changes_how_a_model_is_computed_or_trained_is_left_out(name, changed):
    config = config_of(name, architectures=zoo.architectures(name))
    assert families.of(config).shape({**config, **changed}) == families.of(config).shape(config)


def test_mistral_with_kinds_of_layers_is_what_transformers_loads():
    """Its class of another name, whose layers without a window see all positions."""
    config = config_of("ministral", model_type="mistral", architectures=["MistralForCausalLM"])
    shape = families.of(config).shape(config)
    assert shape.windows == (0, 8) and shape == families.MINISTRAL.shape(config_of("ministral"))


def test_a_model_type_of_another_architecture_is_refused():
    """transformers loads the class of the model type, here one whose layers have windows."""
    config = config_of("mistral", architectures=["LlamaForCausalLM"])
    with pytest.raises(UserError, match=r"model_type='mistral' does not belong to .* \('llama' does\)"):
        families.of(config)


def test_gelu_in_gpt2_configs_means_gelu():
    config = config_of("gpt2", architectures=["GPT2LMHeadModel"])
    assert families.of(config).shape(config).activation == "gelu_tanh"
    assert families.of(config).shape({**config, "activation_function": "gelu"}).activation == "gelu"


def test_gelu_in_early_gemma_configs_means_gelu_tanh():
    config = config_of("gemma", architectures=["GemmaForCausalLM"], hidden_act="gelu")
    assert families.of(config).shape(config).activation == "gelu_tanh"


FACTORS = {"type": "longrope", "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 2.0, 4.0, 8.0]}


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("xglm", {"pad_token_id": 5}, "pad_token_id=5 is not covered for XGLM"),
        ("cohere", {"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Cohere"),
        ("cohere", {"partial_rotary_factor": 0.5, "rope_parameters": {"rope_theta": 1.0}}, "=0.5 is not covered for"),
        ("cohere", {"rope_parameters": None}, "has no rope_theta, which a cohere model needs"),
        ("cohere2", {"partial_rotary_factor": 0.5, "rope_parameters": {}}, "=0.5 is not covered for Cohere2"),
        ("cohere2", {"sliding_window": None}, "has no sliding_window, which a cohere2 model needs"),
        ("cohere2", {"layer_types": ["full_attention"]}, "layer_types must be .* for each of 4 layers"),
        ("nemotron", {"attention_bias": True}, "attention_bias=True is not covered for Nemotron"),
        ("nemotron", {"mlp_bias": True}, "mlp_bias=True is not covered for Nemotron"),
        ("ministral3", {"rope_parameters": {"rope_theta": 1.0}}, "has no original_max_position_embeddings"),
        ("exaone4", {"layer_types": None, "sliding_window_pattern": "LLLG"}, "='LLLG' is not a whole number"),
        ("exaone4", {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern=0 is not above 0"),
        ("xglm", {"activation_function": "relu"}, "activation_function='relu' is not covered for XGLM"),
        ("phi", {"hidden_act": "gelu"}, "hidden_act='gelu' is not covered for Phi"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not covered for Gemma3"),
        ("llama", {"partial_rotary_factor": 0.5, "rope_parameters": None}, "partial_rotary_factor=0.5 is not covered"),
        ("qwen3", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5 is not covered"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True is not covered for Gemma"),
        (
            "llama",
            {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "'dynamic' is not cov",
        ),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 0.0}}, r"factor=0\.0 is not above 0"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": -4}}, "factor=-4 is not above 0"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4, "beta_slow": -1}}, r"beta_slow \(-1\)"),
        ("qwen2", {"rope_theta": 1, "rope_parameters": None, "rope_scaling": {"type": "yarn", "factor": 4}}, "above 1"),
        ("phi3", {"rope_scaling": {"type": "yarn", "factor": 4}}, "has no short_factor, which a phi3 model needs"),
        ("phi3", {"rope_scaling": {"type": "linear", "factor": 4}}, r"'linear' .* \(covered: 'default', 'longrope'\)"),
        ("phi3 with longrope", {"rope_scaling": {**FACTORS, "short_factor": [1.0]}}, "short_factor is not 4 numbers"),
        (
            "phi3 with longrope",
            {"rope_scaling": {**FACTORS, "long_factor": [1.0, 2.0, 4.0, float("inf")]}},
            "long_factor is not 4 numbers above 0",
        ),
        ("phi3 with longrope", {"rope_scaling": {**FACTORS, "long_factor": [0] * 4}}, "long_factor is not 4 numbers"),
        ("phi3 with longrope", {"original_max_position_embeddings": 0}, "original_max_position_embeddings=0 is not"),
        ("gemma3", {"rope_scaling": {"type": "yarn", "factor": 4, "truncate": False}}, "truncate=False is not covered"),
        ("olmo3", {"rope_scaling": {"type": "yarn", "factor": 4, "truncate": False}}, "truncate=False is not covered"),
        ("gemma3", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 8}}, "name it rope_type"),
        ("olmo3", {"rope_parameters": None, "rope_scaling": {"type": "yarn", "factor": 8}}, "name it rope_type"),
        ("olmo3", {"rope_parameters": None, "rope_theta": 10_000.0}, "sliding_attention other than unscaled ones"),
        ("hunyuan_v1_dense", {"rope_parameters": {"type": "dynamic", "factor": 2.0}}, "'dynamic' is not covered"),
        ("hunyuan_v1_dense", {"head_dim": None}, "has no head_dim, which a hunyuan_v1_dense model needs"),
        ("hunyuan_v1_dense", {"rope_scaling": {"type": "dynamic", "alpha": -1.0}}, r"alpha=-1\.0 is not above 0"),
        ("granitemoehybrid", {"position_embedding_type": "nope"}, "embedding_type='nope' is not covered for Granite 4"),
        ("granitemoehybrid", {"layer_types": ["attention", "mamba"]}, "layer_types has 'mamba', which is not covered"),
        ("granitemoehybrid", {"layer_types": None}, "layer_types has 'mamba', which is not covered for Granite 4"),
        ("falcon", {"multi_query": False}, "multi_query=False is not covered for Falcon without new_decoder_arch"),
        ("falcon", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn=2 is not covered for Falcon without"),
        ("falcon 40B", {"parallel_attn": False}, "parallel_attn=False is not covered for Falcon"),
        ("falcon 40B", {"bias": True}, "bias=True is not covered for Falcon"),
        ("gpt_neox", {"head_dim": 32}, "head_dim=32 is not covered for GPT-NeoX"),
        ("phi3", {"layer_types": ["full_attention"] * 2}, "layer_types without the window in some"),
        ("gemma2", {"layer_types": ["sliding_attention"]}, "layer_types must be .* for each of 2 layers"),
        ("qwen2 with a window", {"layer_types": ["chunked_attention"] * 2}, "layer_types must be .* for each of 2"),
        (
            "olmo3",
            {"rope_parameters": {"sliding_attention": {"rope_theta": 500_000, "rope_type": "linear", "factor": 2}}},
            "sliding_attention other than unscaled ones",
        ),
    ],
)
def test_further_unsupported_settings_are_named(name, changed, said):
    config = config_of(name, architectures=zoo.architectures(name), **changed)
    with pytest.raises(UserError, match=said):
        families.of(config).shape(config)


@pytest.mark.parametrize("rope", [{"rope_theta": None}, {"rope_scaling": {"type": "linear", "factor": None}}])
def test_numbers_of_rotary_positions_that_are_null_are_missing(rope):
    config = {**config_of("llama", architectures=["LlamaForCausalLM"]), "rope_parameters": None, **rope}
    with pytest.raises(UserError, match=r"config\.json has no (rope_theta|factor), which a llama model needs"):
        families.of(config).shape(config)


ROPE = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "silu"}
PUBLISHED = {
    "Llama-2-7b": (6_738_415_616, {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008, "vocab_size": 32000,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False,
        **ROPE,
    }),
    "Mistral-7B": (7_241_732_096, {
        "architectures": ["MistralForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 32000,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
        "sliding_window": 4096, **ROPE,
    }),
    "Mistral-Small-3.1-24B": (23_572_403_200, {
        "architectures": ["MistralForCausalLM"], "hidden_size": 5120, "intermediate_size": 32768, "vocab_size": 131072,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "sliding_window": None, **ROPE, "max_position_embeddings": 131072, "rope_theta": 1e9,
    }),
    "Ministral-3-8B-Base": (8_489_553_920, {
        "architectures": ["Ministral3ForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
        "vocab_size": 131072, "num_hidden_layers": 34, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "hidden_act": "silu", "max_position_embeddings": 262144, "rms_norm_eps": 1e-05,
        "sliding_window": None, "tie_word_embeddings": False, "rope_parameters": {
            "type": "yarn", "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0,
            "beta_slow": 1.0, "original_max_position_embeddings": 16384, "mscale": 1.0, "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    }),
    "EXAONE-4.0-32B": (32_003_216_384, {
        "architectures": ["Exaone4ForCausalLM"], "hidden_size": 5120, "intermediate_size": 27392, "vocab_size": 102400,
        "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
        "sliding_window": 4096, "sliding_window_pattern": "LLLG", "tie_word_embeddings": False,
        "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 16, "attention_dropout": 0.0,
        "rope_scaling": {"rope_type": "llama3", "factor": 16.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192},
        **ROPE, "max_position_embeddings": 131072, "rope_theta": 1000000,
    }),
    "Seed-OSS-36B-Base": (36_151_104_512, {
        "architectures": ["SeedOssForCausalLM"], "hidden_size": 5120, "intermediate_size": 27648, "vocab_size": 155136,
        "num_hidden_layers": 64, "num_attention_heads": 80, "num_key_value_heads": 8, "head_dim": 128,
        "attention_bias": True, "attention_out_bias": False, "mlp_bias": False, "attention_dropout": 0.1,
        "residual_dropout": 0.1, "tie_word_embeddings": False, **ROPE, "rms_norm_eps": 1e-06,
    }),
    "Jais-2-8B": (8_090_401_280, {
        "architectures": ["Jais2ForCausalLM"], "hidden_size": 3328, "intermediate_size": 26624, "vocab_size": 150272,
        "num_hidden_layers": 32, "num_attention_heads": 26, "hidden_act": "relu2", "layer_norm_eps": 1e-05,
        "max_position_embeddings": 8192, "attention_bias": True, "mlp_bias": True, "rope_theta": 500000,
        "tie_word_embeddings": False,
    }),
    "gemma-2b": (2_506_172_416, {
        "architectures": ["GemmaForCausalLM"], "hidden_size": 2048, "intermediate_size": 16384, "vocab_size": 256000,
        "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
        **ROPE, "hidden_act": "gelu",
    }),
    "gemma-7b": (8_537_680_896, {
        "architectures": ["GemmaForCausalLM"], "hidden_size": 3072, "intermediate_size": 24576, "vocab_size": 256000,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256,
        **ROPE, "hidden_act": "gelu",
    }),
    "gemma-3-1b": (999_885_952, {
        "architectures": ["Gemma3ForCausalLM"], "hidden_size": 1152, "intermediate_size": 6912, "vocab_size": 262144,
        "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256, "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6,
    }),
    "SmolLM3-3B": (3_075_098_624, {
        "architectures": ["SmolLM3ForCausalLM"], "hidden_size": 2048, "intermediate_size": 11008, "vocab_size": 128256,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu",
        "max_position_embeddings": 65536, "rms_norm_eps": 1e-06, "rope_theta": 5000000.0, "rope_scaling": None,
        "no_rope_layers": [1, 1, 1, 0] * 9, "no_rope_layer_interval": 4, "use_sliding_window": False,
        "sliding_window": None, "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
    }),
    "glm-4-9b-hf": (9_399_951_360, {
        "architectures": ["GlmForCausalLM"], "hidden_size": 4096, "intermediate_size": 13696, "vocab_size": 151552,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
        "attention_bias": True, "attention_dropout": 0.0, "tie_word_embeddings": False, "partial_rotary_factor": 0.5,
        **ROPE, "rms_norm_eps": 1.5625e-07, "max_position_embeddings": 8192,
    }),
    "GLM-4-9B-0414": (9_400_279_040, {
        "architectures": ["Glm4ForCausalLM"], "hidden_size": 4096, "intermediate_size": 13696, "vocab_size": 151552,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128,
        "attention_bias": True, "attention_dropout": 0.0, "tie_word_embeddings": False, "partial_rotary_factor": 0.5,
        **ROPE, "rms_norm_eps": 1e-05, "max_position_embeddings": 32768,
    }),
    "ERNIE-4.5-0.3B-Base-PT": (360_748_032, {
        "architectures": ["Ernie4_5ForCausalLM"], "hidden_size": 1024, "intermediate_size": 3072, "vocab_size": 103424,
        "num_hidden_layers": 18, "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128,
        "use_bias": False, "tie_word_embeddings": True, **ROPE, "max_position_embeddings": 131072,
        "rope_theta": 500000,
    }),
    "granite-3.1-2b": (2_533_525_504, {
        "architectures": ["GraniteForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 49152,
        "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
        "attention_bias": False, "attention_dropout": 0.1, "attention_multiplier": 0.015625, "mlp_bias": False,
        "embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22, "rope_scaling": None,
        **ROPE, "rope_theta": 5000000.0, "max_position_embeddings": 131072,
    }),
    "granite-4.0-micro-base": (3_402_836_480, {
        "architectures": ["GraniteMoeHybridForCausalLM"], "hidden_size": 2560, "shared_intermediate_size": 8192,
        "intermediate_size": 8192, "vocab_size": 100352, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 8, "tie_word_embeddings": True, "layer_types": ["attention"] * 40,
        "num_local_experts": 0, "position_embedding_type": "rope", "attention_bias": False,
        "attention_multiplier": 0.015625, "embedding_multiplier": 12, "logits_scaling": 10,
        "residual_multiplier": 0.22, **ROPE, "rope_theta": 10000000, "max_position_embeddings": 131072,
    }),
    "aya-expanse-8b": (8_028_033_024, {
        "architectures": ["CohereForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 256000,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 8192, "layer_norm_eps": 1e-05, "rope_theta": 10000, "logit_scale": 0.125,
        "attention_bias": False, "attention_dropout": 0.0, "use_qk_norm": False,
    }),
    "c4ai-command-r-plus": (103_810_674_688, {
        "architectures": ["CohereForCausalLM"], "hidden_size": 12288, "intermediate_size": 33792, "vocab_size": 256000,
        "num_hidden_layers": 64, "num_attention_heads": 96, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 8192, "layer_norm_eps": 1e-05, "rope_theta": 75000000.0, "use_qk_norm": True,
        "logit_scale": 0.8333333333333334, "attention_bias": False, "attention_dropout": 0.0,
    }),
    "tiny-aya-base": (3_349_227_520, {
        "architectures": ["Cohere2ForCausalLM"], "hidden_size": 2048, "intermediate_size": 11008, "vocab_size": 262144,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "hidden_act": "silu",
        "max_position_embeddings": 500000, "layer_norm_eps": 1e-05, "rope_theta": 50000, "logit_scale": 1.0,
        "attention_bias": False, "attention_dropout": 0.0, "sliding_window": 4096, "head_dim": 128,
        "layer_types": (["sliding_attention"] * 3 + ["full_attention"]) * 9, "tie_word_embeddings": True,
    }),
    "Minitron-4B-Base": (4_190_509_056, {
        "architectures": ["NemotronForCausalLM"], "hidden_size": 3072, "intermediate_size": 9216, "vocab_size": 256000,
        "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
        "hidden_act": "relu2", "max_position_embeddings": 4096, "norm_eps": 1e-05, "rope_theta": 10000,
        "partial_rotary_factor": 0.5, "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
        "tie_word_embeddings": False,
    }),
    "falcon-7b": (6_921_720_704, {
        "architectures": ["FalconForCausalLM"], "hidden_size": 4544, "vocab_size": 65024, "num_hidden_layers": 32,
        "num_attention_heads": 71, "alibi": False, "bias": False, "multi_query": True, "parallel_attn": True,
        "new_decoder_architecture": False, "layer_norm_epsilon": 1e-05, "attention_dropout": 0.0,
        "hidden_dropout": 0.0, "apply_residual_connection_post_layernorm": False,
    }),
    "falcon-40b": (41_303_293_952, {
        "architectures": ["FalconForCausalLM"], "hidden_size": 8192, "vocab_size": 65024, "num_hidden_layers": 60,
        "num_attention_heads": 128, "num_kv_heads": 8, "alibi": False, "bias": False, "parallel_attn": True,
        "new_decoder_architecture": True, "layer_norm_epsilon": 1e-05, "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
    }),
    "starcoder2-3b": (3_030_371_328, {
        "architectures": ["Starcoder2ForCausalLM"], "hidden_size": 3072, "intermediate_size": 12288,
        "vocab_size": 49152, "num_hidden_layers": 30, "num_attention_heads": 24, "num_key_value_heads": 2,
        "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 16384, "norm_epsilon": 1e-05,
        "rope_theta": 999999.4420358813, "sliding_window": 4096, "use_bias": True, "attention_dropout": 0.1,
        "residual_dropout": 0.1, "embedding_dropout": 0.1,
    }),
    "phi-2": (2_779_683_840, {
        "architectures": ["PhiForCausalLM"], "hidden_size": 2560, "intermediate_size": 10240, "vocab_size": 51200,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "gelu_new",
        "max_position_embeddings": 2048, "partial_rotary_factor": 0.4, "qk_layernorm": False, "rope_scaling": None,
        "rope_theta": 10000.0, "layer_norm_eps": 1e-05, "resid_pdrop": 0.1, "embd_pdrop": 0.0,
        "attention_dropout": 0.0, "tie_word_embeddings": False,
    }),
    "pythia-1.4b": (1_414_647_808, {
        "architectures": ["GPTNeoXForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192, "vocab_size": 50304,
        "num_hidden_layers": 24, "num_attention_heads": 16, "hidden_act": "gelu", "max_position_embeddings": 2048,
        "layer_norm_eps": 1e-05, "rotary_emb_base": 10000, "rotary_pct": 0.25, "use_parallel_residual": True,
        "tie_word_embeddings": False,
    }),
    "Phi-3.5-mini-instruct": (3_821_079_552, {
        "architectures": ["Phi3ForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192, "vocab_size": 32064,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False,
        "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "sliding_window": 262144,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
        **ROPE, "max_position_embeddings": 131072,
    }),
    "Phi-4-mini-instruct": (3_836_021_760, {
        "architectures": ["Phi3ForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192, "vocab_size": 200064,
        "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8, "tie_word_embeddings": True,
        "attention_bias": False, "mlp_bias": False, "full_attn_mod": 1, "lm_head_bias": False, "interpolate_factor": 1,
        "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "sliding_window": 262144,
        "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
        **ROPE, "max_position_embeddings": 131072,
    }),
    "bloom-7b1": (7_069_016_064, {
        "architectures": ["BloomForCausalLM"], "n_embed": 4096, "n_layer": 30, "num_attention_heads": 32,
        "n_inner": None, "seq_length": 2048, "vocab_size": 250880, "attention_dropout": 0.0, "hidden_dropout": 0.0,
        "layer_norm_epsilon": 1e-05, "apply_residual_connection_post_layernorm": False, "pretraining_tp": 4,
        "slow_but_exact": False, "offset_alibi": 100, "masked_softmax_fusion": True,
    }),
    "xglm-7.5B": (7_492_771_840, {
        "architectures": ["XGLMForCausalLM"], "d_model": 4096, "ffn_dim": 16384, "num_layers": 32,
        "attention_heads": 32, "activation_function": "gelu", "dropout": 0.1, "attention_dropout": 0.1,
        "activation_dropout": 0, "layerdrop": 0.0, "scale_embedding": True, "max_position_embeddings": 2048,
        "pad_token_id": 1, "vocab_size": 256008,
    }),
}  # fmt: skip
"""Parameters and published config.json, in transformers 4's format: the bases of arXiv 2406.14670, and later models."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_give_the_published_size(name):
    """The family's tensors have as many numbers as the model, and as transformers' model of the same config.json."""
    size, config = PUBLISHED[name]
    family = families.of(config)
    shape = family.shape(config)
    found = sum(math.prod(entry.shape) * (shape.layers if entry.stacked else 1) for entry in family.entries(shape))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family.name, **config))
    assert found == size == sum(parameter.numel() for parameter in model.parameters())


def test_docs_models_md_lists_every_family():
    """In both tables, with its class and as many configurations as the zoo has; and all tests that it names exist."""
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    tables = {len(row): {each[0].strip("`"): each for each in rows if len(each) == len(row)} for row in rows}
    kinds, tested = tables[8], tables[7]
    assert list(kinds) == list(tested) == families.names()
    for family in families.FAMILIES:
        assert kinds[family.name][1] == f"`{family.architectures[0]}`"
        count = sum(make().model_type == family.name for make in zoo.ZOO.values())
        assert re.match(rf"{count}\b", tested[family.name][1]), family.name
    for name in re.findall(r"`(test_\w+\.py)`", page):
        assert list(Path(__file__).parents[1].rglob(name)), name


def test_phi_rotates_half_of_a_head_by_default():
    config = {**config_of("phi"), "architectures": ["PhiForCausalLM"]}
    assert families.of(config).shape(config).rotary.share == 0.4
    del config["rope_parameters"]
    assert families.of(config).shape(config).rotary.share == 0.5


def test_gpt_neox_rotates_a_quarter_of_a_head_by_default():
    config = {**config_of("gpt_neox"), "architectures": ["GPTNeoXForCausalLM"], "rope_parameters": None}
    assert families.of(config).shape(config).rotary == families.of(config).shape(config_of("gpt_neox")).rotary
    assert families.of(config).shape(config).rotary.share == 0.25


def test_what_nemotron_models_leave_out_is_what_transformers_takes():
    full = config_of("nemotron, tied", architectures=["NemotronForCausalLM"])
    left = ("norm_eps", "rope_parameters", "tie_word_embeddings", "hidden_act")
    shorter = {key: value for key, value in full.items() if key not in left}
    complete = {**NemotronConfig.from_dict(dict(shorter)).to_dict(), "architectures": full["architectures"]}
    shape = families.of(full).shape(shorter)
    assert shape == families.of(full).shape(complete)
    assert (shape.rotary.share, shape.norm_epsilon, shape.tied) == (0.5, 1e-5, False)


def test_both_rotaries_of_gemma3_equal_transformers():
    """With scaling where a layer sees all positions, with another base where it has a window."""
    config = zoo.ZOO["gemma3"]()
    shape = families.of(config_of("gemma3", architectures=["Gemma3ForCausalLM"])).shape(config_of("gemma3"))
    theirs = Gemma3RotaryEmbedding(config)
    assert len(shape.kinds_of_rotary) == 2
    for kind, rotary in zip(config.layer_types, shape.rotaries, strict=True):
        found = inverse_frequencies(rotary, shape.head_dim, torch.device("cpu"))
        torch.testing.assert_close(found, getattr(theirs, f"{kind}_inv_freq"), rtol=1e-6, atol=0)


def test_every_fourth_layer_of_smollm3_has_no_positions_by_default():
    config = {**config_of("smollm3"), "num_hidden_layers": 8, "no_rope_layers": None}
    shape = families.of({**config, "architectures": ["SmolLM3ForCausalLM"]}).shape(config)
    assert [rotary is None for rotary in shape.rotaries] == [False, False, False, True] * 2
    assert shape.kinds_of_rotary == (shape.rotary,)


def test_windows_and_positions_of_cohere2_are_those_of_transformers():
    """Config.json of transformers 4 may have a pattern instead of a list: three layers with windows, one without."""
    config = {**config_of("cohere2"), "num_hidden_layers": 6, "layer_types": None}
    shape_of = families.of({"architectures": ["Cohere2ForCausalLM"]}).shape
    for pattern in ({}, {"sliding_window_pattern": 2}):
        given = {**config, **pattern}
        kinds = Cohere2Config.from_dict(dict(given)).layer_types
        shape = shape_of(given)
        assert shape.windows == tuple(8 if kind == "sliding_attention" else 0 for kind in kinds)
        assert [rotary is None for rotary in shape.rotaries] == [kind == "full_attention" for kind in kinds]
    assert len(set(shape_of({**config, "sliding_window_pattern": 1}).rotaries)) == 1


def test_what_cohere_models_leave_out_is_what_transformers_takes():
    for name, kind in (("cohere", CohereConfig), ("cohere2", Cohere2Config)):
        left = ("layer_norm_eps", "logit_scale", "tie_word_embeddings", "sliding_window", "layer_types", "head_dim")
        full = config_of(name, architectures=zoo.architectures(name))
        shorter = {key: value for key, value in full.items() if key not in left}
        complete = {**kind.from_dict(dict(shorter)).to_dict(), "architectures": full["architectures"]}
        shape = families.of(full).shape(shorter)
        assert shape == families.of(full).shape(complete)
        assert (shape.logit_scale, shape.norm_epsilon, shape.tied) == (0.0625, 1e-5, True)


SIZES_ALONE = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


LEFT_OUT = (
    *("glm", "glm4", "hunyuan_v1_dense", "ernie4_5", "granitemoehybrid", "starcoder2"),
    *("falcon", "falcon 40B"),
)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_all_that_config_json_leaves_out_is_what_transformers_takes(name):
    """All but sizes, of which zoo and config.json have the same."""
    full = config_of(name, architectures=zoo.architectures(name))
    kept = (*SIZES_ALONE, "architectures", "model_type", "new_decoder_architecture", "layer_types", "num_local_experts")
    kept = (*kept, "position_embedding_type", "mamba_n_heads")
    shorter = {key: value for key, value in full.items() if key in kept}
    complete = {**type(zoo.ZOO[name]()).from_dict(dict(shorter)).to_dict(), "architectures": full["architectures"]}
    assert families.of(full).shape(shorter) == families.of(full).shape(complete)


@pytest.mark.parametrize(("given", "norms"), [(1, "shared"), (2, "beside"), (None, "beside")])
def test_norms_of_falcon_11b_and_40b(given, norms):
    config = config_of("falcon 40B", architectures=["FalconForCausalLM"], num_ln_in_parallel_attn=given)
    assert families.of(config).shape(config).norms == norms


def test_a_list_of_rotated_layers_that_is_too_short_is_reported():
    config = config_of("smollm3", architectures=["SmolLM3ForCausalLM"], no_rope_layers=[1, 0])
    with pytest.raises(UserError, match="no_rope_layers has 2 numbers for 4 layers"):
        families.of(config).shape(config)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(("given", "said"), [({"quant_method": "fp8"}, "fp8"), ({"bits": 4}, "None"), ("gptq", "gptq")])
def test_a_quantized_model_is_refused(tmp_path, given, said, inside):
    """Its export would be read as quantized, whatever its weights are."""
    config = config_of("gemma3", architectures=["Gemma3ForCausalLM"], quantization_config=given)
    if inside:
        config |= {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": config_of("gemma3")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"quantization_config \({said}\): quantized models are not covered"):
        read_shape(tmp_path)


@pytest.mark.parametrize("text", [{}, {"text_config": None}])
def test_a_model_with_images_whose_language_model_is_not_described_is_reported(tmp_path, text):
    config = {"architectures": ["Gemma3ForConditionalGeneration"], **text}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = read_config(tmp_path)
    with pytest.raises(UserError, match=r"config\.json has no num_hidden_layers, which a gemma3_text model needs"):
        families.of(found).shape(found)


@pytest.mark.parametrize(
    "kinds", [{"full_attention": {"rope_theta": 5.0}}, {"full_attention": {}, "sliding_attention": {}}]
)
def test_rotary_settings_of_one_kind_alone_are_exported(kinds):
    """As transformers reads them: what is missing has its default."""
    config = config_of("gemma3", architectures=["Gemma3ForCausalLM"], rope_parameters=kinds)
    written = {**config, **older_rope(config)}
    for_four = {key: value for key, value in written.items() if key != "rope_parameters"}
    family = families.of(config)
    assert family.shape(for_four) == family.shape(config)


ROTARY = (
    *("llama", "llama 3.1's rope", "llama, rope stretched", "llama with yarn", "qwen2 with yarn"),
    *("smollm3 with yarn", "phi3, half rotated", "phi", "gpt_neox", "gpt_neox without parallel layers"),
    *("phi3 with longrope", "glm", "glm4", "cohere", "cohere with yarn", "nemotron", "nemotron, tied"),
)


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_frequencies_equal_transformers(name):
    config = zoo.ZOO[name]()
    shape = families.of(config_of(name, architectures=zoo.architectures(name))).shape(config_of(name))
    found = inverse_frequencies(shape.rotary, shape.head_dim, torch.device("cpu"))
    kind = config.rope_parameters["rope_type"]
    if kind == "default":
        columns = int(shape.head_dim * config.rope_parameters.get("partial_rotary_factor", 1.0))
        expected, magnitude = 1.0 / 10_000.0 ** (torch.arange(0, columns, 2).float() / columns), 1.0
    else:
        expected, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert shape.rotary.magnitude == pytest.approx(magnitude)


@pytest.mark.parametrize("name", ["llama 3.1's rope", "llama with yarn"])
def test_an_original_length_beside_the_scaling_counts_as_in_transformers(name):
    config = config_of(name, architectures=["LlamaForCausalLM"], original_max_position_embeddings=32)
    rotary = families.of(config).shape(config).rotary
    theirs = LlamaConfig.from_dict(dict(config))
    expected, magnitude = ROPE_INIT_FUNCTIONS[theirs.rope_parameters["rope_type"]](theirs, torch.device("cpu"))
    torch.testing.assert_close(inverse_frequencies(rotary, 8, torch.device("cpu")), expected, rtol=1e-6, atol=0)
    assert rotary.magnitude == pytest.approx(magnitude)


QWEN_2_5 = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
"""As Qwen 2.5's model cards give it, for config.json of transformers 4."""


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"factor": None},
        {"attention_factor": 1.25},
        {"mscale": 1.0, "mscale_all_dim": 0.8},
        {"mscale": 1.0},
        {"beta_fast": 64, "beta_slow": 2},
        {"truncate": False},
        {"factor": 0.5},
        {"original_max_position_embeddings": None},
        {"original_max_position_embeddings": 4},
    ],
    ids=str,
)
def test_yarn_is_that_of_transformers(changed):
    scaling = {key: value for key, value in {**QWEN_2_5, **changed}.items() if value is not None or key == "factor"}
    config = {
        **config_of("qwen2", architectures=["Qwen2ForCausalLM"]), "hidden_size": 256, "max_position_embeddings": 131072,
        "rope_parameters": None, "rope_theta": 1_000_000.0, "rope_scaling": scaling,
    }  # fmt: skip
    rotary = families.of(config).shape(config).rotary
    expected, magnitude = ROPE_INIT_FUNCTIONS["yarn"](Qwen2Config.from_dict(dict(config)), torch.device("cpu"))
    torch.testing.assert_close(inverse_frequencies(rotary, 64, torch.device("cpu")), expected, rtol=1e-6, atol=0)
    assert rotary.magnitude == pytest.approx(magnitude)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"type": "su", "original_max_position_embeddings": 4096},
        {"type": "yarn"},
        {"factor": 2.0},
        {"factor": 0.5},
        {"attention_factor": 1.25},
        {"original_max_position_embeddings": 32},
    ],
    ids=str,
)
def test_longrope_is_that_of_transformers_up_to_the_original_length(changed):
    """A length in the scaling does not count: it is 4,096 if config.json has none beside it."""
    config = {
        **config_of("phi3", architectures=["Phi3ForCausalLM"]), "max_position_embeddings": 131072,
        "rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": {**FACTORS, **changed},
    }  # fmt: skip
    del config["original_max_position_embeddings"]
    shape = families.of(config).shape(config)
    theirs = Phi3RotaryEmbedding(Phi3Config.from_dict(json.loads(json.dumps(config))))
    found = inverse_frequencies(shape.rotary, 8, torch.device("cpu"))
    torch.testing.assert_close(found, theirs.inv_freq, rtol=1e-6, atol=0)
    assert shape.rotary.magnitude == pytest.approx(theirs.attention_scaling)
    check_positions(shape, 4096)
    with pytest.raises(UserError, match=r"seq_length=4097: .* beyond 4096 positions is not covered"):
        check_positions(shape, 4097)


def test_the_base_of_hunyuan_is_that_of_transformers():
    """As published, with settings of other scalings that do not count."""
    scaling = {"type": "dynamic", "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0}
    config = {
        **config_of("hunyuan_v1_dense", architectures=["HunYuanDenseV1ForCausalLM"]), "rope_parameters": None,
        "rope_scaling": scaling, "rope_theta": 10000.0,
    }  # fmt: skip
    theirs = HunYuanDenseV1RotaryEmbedding(HunYuanDenseV1Config.from_dict(json.loads(json.dumps(config))))
    found = inverse_frequencies(families.of(config).shape(config).rotary, 16, torch.device("cpu"))
    torch.testing.assert_close(found, theirs.inv_freq, rtol=1e-6, atol=0)


def test_both_rotaries_of_olmo3_equal_transformers():
    """In the format of transformers 4, as published, and with YaRN where a layer sees all positions."""
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192, "attention_factor": 1.2}
    config = {
        **config_of("olmo3", architectures=["Olmo3ForCausalLM"]), "rope_parameters": None, "rope_scaling": scaling,
        "rope_theta": 500_000, "max_position_embeddings": 65536,
    }  # fmt: skip
    shape, theirs = families.of(config).shape(config), Olmo3RotaryEmbedding(Olmo3Config.from_dict(dict(config)))
    assert shape.windows == (8, 8, 8, 0)
    for sliding, rotary in zip(shape.windows, shape.rotaries, strict=True):
        kind = "sliding_attention" if sliding else "full_attention"
        found = inverse_frequencies(rotary, shape.head_dim, torch.device("cpu"))
        torch.testing.assert_close(found, getattr(theirs, f"{kind}_inv_freq"), rtol=1e-6, atol=0)
        assert rotary.magnitude == getattr(theirs, f"{kind}_attention_scaling")


def test_ranks_may_share_a_key_value_head_except_in_olmo2_and_command_r_plus():
    config = config_of("llama", architectures=["LlamaForCausalLM"])
    check_layout(families.of(config).shape(config), ParallelConfig(tp=4))
    for name in ("olmo2", "cohere with yarn"):
        config = config_of(name, architectures=zoo.architectures(name), num_key_value_heads=2)
        with pytest.raises(UserError, match="tp=4 does not divide the model's 2 key-value heads"):
            check_layout(families.of(config).shape(config), ParallelConfig(tp=4))


def test_samples_longer_than_learned_positions_are_refused():
    shapes = {name: families.of(config_of(name, architectures=zoo.architectures(name))).shape(config_of(name))
              for name in ("gpt2", "xglm", "bloom", "llama")}  # fmt: skip
    for shape in shapes.values():
        check_positions(shape, 64)
    for name in ("xglm", "bloom", "llama"):  # computed at any length
        check_positions(shapes[name], 65)
    with pytest.raises(UserError, match="seq_length=65: the model has learned 64 positions"):
        check_positions(shapes["gpt2"], 65)
    assert beyond_trained(shapes["llama"], 65) == "65 tokens, more than the 64 of the model's max_position_embeddings"
    assert [beyond_trained(shape, 64) for shape in shapes.values()] == [""] * 4
    assert [beyond_trained(shapes[name], 65) for name in ("xglm", "bloom")] == ["", ""]  # not trained for a length


@pytest.mark.parametrize("family", families.FAMILIES, ids=families.names())
def test_a_missing_setting_is_reported(family):
    with pytest.raises(UserError, match=rf"config\.json has no \w+, which a {family.name} model needs"):
        family.shape({"hidden_activation": "gelu_pytorch_tanh"})


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("llama", {"num_attention_heads": "8"}, "num_attention_heads='8' is not a whole number above 0"),
        ("llama", {"num_attention_heads": 8.0, "head_dim": 8}, "num_attention_heads=8.0 is not a whole number above 0"),
        ("llama", {"num_attention_heads": 0}, "num_attention_heads=0 is not a whole number above 0"),
        ("llama", {"intermediate_size": None}, "has no intermediate_size, which a llama model needs"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling='linear' is not an object"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": "2"}}, "factor='2' is not a number"),
        ("llama", {"rms_norm_eps": "1e-5"}, "rms_norm_eps='1e-5' is not a number"),
        ("llama", {"rms_norm_eps": None}, "rms_norm_eps=None is not a number"),
        ("llama", {"rms_norm_eps": -1e-5}, "rms_norm_eps=-1e-05 is not a number of at least 0"),
        ("llama", {"rope_theta": 10**400}, r"rope_theta=10{59}… is not a number"),
        ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000 is not at most 100000"),
        ("llama", {"num_attention_heads": 10**9}, "num_attention_heads=1000000000 is not at most 100000"),
        ("llama", {"num_key_value_heads": 10**9}, "num_key_value_heads=1000000000 is not at most 100000"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps=nan is not a number"),
        ("llama", {"rope_theta": float("inf")}, "rope_theta=inf is not a number"),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": float("nan")}}, "factor=nan is not a number"),
        ("llama", {"max_position_embeddings": 0}, "max_position_embeddings=0 is not a whole number above 0"),
        ("llama", {"head_dim": -8}, "head_dim=-8 is not a whole number above 0"),
        ("llama", {"tie_word_embeddings": "false"}, "tie_word_embeddings='false' is not true or false"),
        ("llama", {"vocab_size": True}, "vocab_size=True is not a whole number above 0"),
        ("gpt_neox", {"use_parallel_residual": "false"}, "use_parallel_residual='false' is not true or false"),
        ("gpt_neox", {"rope_parameters": None, "rotary_pct": None}, "rotary_pct=None is not a number"),
        ("gpt_neox", {"rope_parameters": None, "rotary_emb_base": "1"}, "rotary_emb_base='1' is not a number"),
        ("glm", {"attention_bias": "false"}, "attention_bias='false' is not true or false"),
        ("granite", {"residual_multiplier": "0.2"}, "residual_multiplier='0.2' is not a number"),
        ("granite", {"embedding_multiplier": None}, "embedding_multiplier=None is not a number"),
        ("granite", {"logits_scaling": 0}, "logits_scaling=0 is not above 0"),
        ("cohere", {"use_qk_norm": "yes"}, "use_qk_norm='yes' is not true or false"),
        ("cohere", {"logit_scale": "0.1"}, "logit_scale='0.1' is not a number"),
        ("cohere", {"logit_scale": None}, "logit_scale=None is not a number"),
        ("cohere2", {"logit_scale": 0}, "logit_scale=0 is not above 0"),
        ("cohere2", {"layer_norm_eps": None}, "layer_norm_eps=None is not a number"),
        ("cohere2", {"sliding_window_pattern": 0}, "sliding_window_pattern=0 is not above 0"),
        ("starcoder2", {"norm_epsilon": None}, "norm_epsilon=None is not a number"),
        ("nemotron", {"norm_eps": None}, "norm_eps=None is not a number"),
        ("nemotron", {"norm_eps": "1e-5"}, "norm_eps='1e-5' is not a number"),
        ("gemma3", {"layer_types": "full_attention"}, "layer_types='full_attention' is not a list"),
        ("gpt2", {"n_inner": [64]}, r"n_inner=\[64\] is not a whole number"),
        ("llama", {"architectures": "LlamaForCausalLM"}, "architectures='LlamaForCausalLM' is not a list of names"),
    ],
)
def test_a_setting_of_a_wrong_type_is_named(name, changed, said):
    config = config_of(name, **{"architectures": zoo.architectures(name), **changed})
    with pytest.raises(UserError, match=rf"config\.json:? .*{said}") as error:
        families.of(config).shape(config)
    assert "\n" not in str(error.value)


def mistral3(tmp_path, text, **beside):
    """The folder of a model that reads images, whose language model is ``text``."""
    content = {"architectures": ["Mistral3ForConditionalGeneration"], "text_config": text, **beside}
    (tmp_path / "config.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("name", ["mistral", "ministral3"])
@pytest.mark.parametrize(("inside", "beside", "tied"), [(False, True, True), (True, False, False), (True, None, True)])
def test_the_whole_model_says_whether_tables_are_tied(tmp_path, name, inside, beside, tied):
    given = {} if beside is None else {"tie_word_embeddings": beside}
    folder = mistral3(tmp_path, {**config_of(name), "tie_word_embeddings": inside}, **given)
    family, shape = read_shape(folder)
    assert (family.name, shape.tied) == (name, tied)


def test_a_language_model_of_another_family_is_named(tmp_path):
    folder = mistral3(tmp_path, config_of("llama"))
    with pytest.raises(UserError, match=r"model_type='llama', which is not supported inside Mistral3.*: mistral, "):
        read_config(folder)


def test_samples_beyond_what_ministral3_was_trained_on_are_refused():
    config = config_of("ministral3", architectures=["Ministral3ForCausalLM"])
    shape = families.of(config).shape(config)
    check_positions(shape, 48)
    with pytest.raises(UserError, match=r"evaluate.context=49: .* beyond 48 positions is not covered"):
        check_positions(shape, 49, "evaluate.context")


def test_a_text_config_of_a_wrong_type_is_named(tmp_path):
    content = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": "gemma3_text"}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"config\.json: text_config='gemma3_text' is not an object"):
        read_config(tmp_path)
