"""When a model is built from Transformer Engine's layers."""

from dataclasses import replace

import pytest
from helpers.plans_of_models import plan_config, settings
from megatron.core.transformer import ModuleSpec

from nemo_adapt import devices, families
from nemo_adapt.config import ParallelConfig
from nemo_adapt.families.family import BEFORE
from nemo_adapt.model import build

ENGINE = ModuleSpec(object)


@pytest.mark.parametrize(
    ("name", "changes", "cp", "engine"),
    [
        ("llama", {}, 1, True),
        ("llama", {"reset_attention": True}, 1, False),
        ("llama", {"precision": "bf16"}, 2, True),
        ("llama", {"precision": "fp32"}, 2, False),
        ("qwen3", {}, 1, True),
        ("smollm3", {}, 1, True),
        ("gemma2", {}, 1, False),
        ("gemma3", {}, 1, False),
        ("cohere", {}, 1, False),
        ("nemotron", {}, 1, True),
    ],
)
def test_transformer_engine_layers_are_used_where_they_are_sufficient(monkeypatch, name, changes, cp, engine):
    """Transformer Engine's attention does not separate documents, has no CP in fp32, and no soft cap of the scores."""
    hf_config, parallel = settings(name), ParallelConfig(cp=cp)
    shape, train = families.of(hf_config).shape(hf_config), replace(plan_config().train, **changes)
    config = build.transformer_config(shape, parallel, train)
    monkeypatch.setattr(build, "get_gpt_layer_with_transformer_engine_spec", lambda **unused: ENGINE)
    monkeypatch.setattr(build, "get_num_layers_to_build", lambda *unused: 2)
    assert build.layer_spec(shape, parallel, train, config, None) is not ENGINE
    monkeypatch.setattr(devices, "has_transformer_engine", lambda: True)
    assert (build.layer_spec(shape, parallel, train, config, None) is ENGINE) == engine


def test_a_layer_norm_without_bias_is_not_transformer_engine_s():
    hf_config = settings("cohere")
    shape = replace(families.of(hf_config).shape(hf_config), norms=BEFORE)
    assert not shape.is_plain
    assert replace(shape, norm_bias=True).is_plain
