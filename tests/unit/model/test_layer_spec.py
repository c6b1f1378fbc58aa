"""Whose layers a model is made of, where Transformer Engine is installed."""

import pytest
from helpers.plans_of_models import plan_config, settings
from megatron.core.transformer import ModuleSpec

from nemo_adapt import devices, families
from nemo_adapt.config import ParallelConfig
from nemo_adapt.model import build

ENGINE = ModuleSpec(object)


@pytest.mark.parametrize(
    ("name", "reset_attention", "engine"),
    [("llama", False, True), ("llama", True, False), ("qwen3", False, True), ("gemma2", False, False)],
)
def test_they_are_its_layers_where_they_have_what_is_needed(monkeypatch, name, reset_attention, engine):
    """Its attention does not go document by document, and it has no capped scores."""
    hf_config, train = settings(name), plan_config().train
    shape, train.reset_attention = families.of(hf_config).shape(hf_config), reset_attention
    config = build.transformer_config(shape, ParallelConfig(), train)
    monkeypatch.setattr(build, "get_gpt_layer_with_transformer_engine_spec", lambda **unused: ENGINE)
    monkeypatch.setattr(build, "get_num_layers_to_build", lambda *unused: 2)
    assert build.layer_spec(shape, train, config, None) is not ENGINE
    monkeypatch.setattr(devices, "has_transformer_engine", lambda: True)
    assert (build.layer_spec(shape, train, config, None) is ENGINE) == engine
