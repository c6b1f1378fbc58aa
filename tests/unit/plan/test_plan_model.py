"""Parameters and vocabularies of a plan, and the shards that a rank holds."""

import json
from dataclasses import replace

import pytest
from helpers.plans_of_models import models_of, plan_config, settings
from helpers.tiny import make_token_map
from helpers.zoo import ZOO
from transformers import AutoModelForCausalLM

from nemo_adapt.config import PhaseConfig, recipes
from nemo_adapt.config.phases import trained
from nemo_adapt.errors import UserError
from nemo_adapt.plan import model

PUBLISHED = {
    "llama2_7b": 6_738_415_616,
    "mistral_7b": 7_241_732_096,
    "gemma_7b": 8_537_680_896,
    "gemma_2b": 2_506_172_416,
    "llama3_8b": 8_030_261_248,
    "llama3_70b": 70_553_706_496,
    "qwen2_5_7b": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "gemma3_4b": 3_880_263_168,
    "bloom_7b": 7_069_016_064,
    "xglm_7_5b": 7_492_771_840,
    "phi_2": 2_779_683_840,
}
"""Parameters as the models' pages on the Hugging Face hub give them; of Gemma 3 4B, those of its language model."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameter_counts_equal_those_published(name):
    found = model.models(recipes.load(name, []))
    assert found.source_parameters == PUBLISHED[name]
    tables = 1 if found.source.tied else 2
    columns = tables * found.source.hidden + found.source.output_bias
    more = found.target.vocab - found.source.vocab
    assert found.target_parameters - found.source_parameters == more * columns
    assert "has no config.json here" in found.facts


@pytest.mark.parametrize("name", sorted({name.split()[0].rstrip(",") for name in ZOO}))
def test_parameter_counts_of_every_family_equal_those_of_transformers(name):
    config = ZOO[name]()
    counted = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    hf_config = {**config.to_dict(), "architectures": settings(name)["architectures"]}
    assert models_of(hf_config).source_parameters == counted


def test_spare_rows_of_the_base_are_used_first():
    qwen = model.models(recipes.load("qwen2_5_7b", ["tokenizer.new_tokens=300"]))
    assert (qwen.first_new, qwen.target.vocab, qwen.source.vocab) == (151665, 151965, 152064)
    assert model.models(recipes.load("qwen2_5_7b", ["tokenizer.new_tokens=0"])).target.vocab == 152064


def test_config_json_of_an_existing_model_folder_takes_precedence(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(settings("llama", torch_dtype="float32")), encoding="utf-8")
    found = model.models(recipes.load("llama3_8b", [f"model.path={tmp_path}"]))
    assert found.source.hidden == 256 and found.facts == f"{tmp_path}/config.json"


def test_vocab_size_comes_from_the_tokenizer_of_the_run_if_there_is_one(tmp_path):
    words = [f"run.dir={tmp_path}", "run.name=made"]
    make_token_map(tmp_path / "made" / "tokenizer", source_vocab=32000, new=77)
    found = model.models(recipes.load("llama2_7b", words))
    assert (found.target.vocab, found.first_new) == (32077, 32000) and "made/tokenizer" in found.vocabulary
    assert "at most" in model.models(recipes.load("llama2_7b", [])).vocabulary


def test_unknown_model_without_config_json_is_a_user_error():
    with pytest.raises(UserError, match=r"model\.path: /nowhere has no config\.json"):
        model.models(recipes.load("blank", ["run.name=x", "model.path=/nowhere"]))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "parallel",
    [{"tp": 2}, {"pp": 2}, {"tp": 4, "pp": 4}, {"pp": 2, "virtual": 2}, {"pp": 3, "stage_layers": [1, 2, 1]}],
)
def test_shards_of_all_ranks_add_up_to_the_model(parallel, tied):
    config, found = plan_config(parallel=parallel), models_of(settings(tie_word_embeddings=tied))
    padded = models_of(settings(tie_word_embeddings=tied), new=48)  # 2,000 rows become 2,048, of 128 x TP 1, 2 and 4
    tp, pp = config.parallel.tp, config.parallel.pp
    total = sum(each.elements for stage in range(pp) for each in model.rank_tensors(found, config, stage)) * tp
    norms = (tp - 1) * (2 * found.target.layers + 1) * found.target.hidden
    copy = 2048 * found.target.hidden if tied and pp > 1 else 0
    assert total == padded.target_parameters + norms + copy


def test_interleaved_layers_are_assigned_as_in_megatron():
    parallel = replace(plan_config().parallel, pp=2, virtual=2)
    assert model.layers_of(0, 8, parallel) == [0, 1, 4, 5] and model.layers_of(1, 8, parallel) == [2, 3, 6, 7]
    assert model.layers_of(0, 7, parallel) == [0, 1, 4, 5] and model.layers_of(1, 7, parallel) == [2, 3, 6]
    given = replace(parallel, stage_layers=[1, 4, 2, 1])
    assert model.layers_of(0, 8, given) == [0, 5, 6] and model.layers_of(1, 8, given) == [1, 2, 3, 4, 7]


def test_number_of_trained_elements_in_each_phase():
    found, config = models_of(settings(), new=300), plan_config(parallel={"tp": 2})
    parts = model.rank_tensors(found, config, 0)
    table = 2304 // 2 * 256  # 2,300 rows, padded to 128 x TP
    wanted = {"embeddings": 2 * table, "output": table, "new_rows": 2 * 300 * 256}
    for phase, elements in wanted.items():
        assert sum(model.trained(parts, trained(PhaseConfig(phase)))) == elements
    everything = sum(each.elements for each in parts)
    assert sum(model.trained(parts, trained(PhaseConfig("all")))) == everything
    layers = sum(model.trained(parts, trained(PhaseConfig("layers:0-3"))))
    assert layers == everything - 2 * table - 256
