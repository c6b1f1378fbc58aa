"""A run as a recipe of Megatron-Bridge: YAML and Python are equivalent, learning rates are the same."""

import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from helpers.tiny import TinyLlama, make_llama
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

from nemo_adapt import families
from nemo_adapt.bridge import recipe, recipe_command
from nemo_adapt.bridge.recipe import RecipePaths
from nemo_adapt.config import ParallelConfig, PhaseConfig, TrainConfig, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.train.setup import _schedule

DOCUMENT = (Path(__file__).parents[3] / "docs/nemo.md").read_text(encoding="utf-8")
REFUSED, DIFFERS = DOCUMENT.partition("## A run as a recipe")[2].partition("\n## ")[0].split("What differs:")
WORDS = ["recipe=blank", "run.name=x", "data.target=[t.txt]"]


def settings(model, *words):
    config = recipes.of_words([*WORDS, f"model.path={model}", *words])
    family = families.of(read_config(model))
    paths = RecipePaths(
        Path("/start"), Path("/tokenizer"), [(Path("/data/tr"), 0.9), (Path("/data/en"), 0.1)], Path("/out")
    )
    return recipe.container(config, family, family.shape(read_config(model)), config.train.phases[0], paths)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_llama(tmp_path_factory.mktemp("tiny") / "model", TinyLlama(vocab=301))


def test_the_recipe_has_the_settings_of_the_run(model):
    words = ("parallel.tp=2", "parallel.sequence=true", "train.precision=bf16", "train.recompute=true")
    found = settings(model, *words, "train.seq_length=128", "train.seed=7")
    assert found["model"]["vocab_size"] == 302 and found["model"]["tensor_model_parallel_size"] == 2
    assert found["model"]["sequence_parallel"] and found["model"]["recompute_granularity"] == "full"
    assert found["model"]["bf16"] and found["optimizer"]["bf16"] and found["ddp"]["grad_reduce_in_fp32"]
    assert found["model"]["seq_length"] == 128 == found["dataset"]["seq_length"]
    assert found["dataset"]["blend_per_split"] == [[["/data/tr", "/data/en"], [0.9, 0.1]], None, None]
    assert found["dataset"]["random_seed"] == 7 and found["tokenizer"]["tokenizer_model"] == "/tokenizer"
    assert found["train"]["train_iters"] == 1000 and found["checkpoint"]["pretrained_checkpoint"] == "/start"


def test_unequal_stages_are_passed_to_bridge(tmp_path):
    model = make_llama(tmp_path / "model", TinyLlama(vocab=301, layers=4))
    key = "pipeline_model_parallel_layout"
    assert key not in settings(model, "parallel.pp=2")["model"]
    found = settings(model, "parallel.pp=2", "parallel.stage_layers=[3,1]")["model"][key]
    assert found == [["embedding", "decoder", "decoder", "decoder"], ["decoder", "loss"]]


def test_interleaved_stages_send_one_by_one(tmp_path):
    """Megatron's batched sends mix up the two directions where the previous and the next stage are the same rank."""
    model = make_llama(tmp_path / "model", TinyLlama(vocab=301, layers=4))
    keys = ("virtual_pipeline_model_parallel_size", "overlap_p2p_comm", "batch_p2p_comm")
    found = settings(model, "parallel.pp=2", "parallel.virtual=2")
    assert [found["model"][key] for key in keys] == [2, True, False] and "comm_overlap" not in found
    assert not set(keys) & settings(model, "parallel.pp=2")["model"].keys()


def replace_bridge(targets, monkeypatch):
    """Replace Bridge's classes and functions by ones that return their arguments."""

    class Anything(ModuleType):
        def __getattr__(self, name):
            return lambda *given, **named: {
                "_target_": f"{self.__name__}.{name}",
                **named,
                **({"": given} if given else {}),
            }

    for target in targets:
        parts = target.split(".")[:-1]
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            if not name.startswith("torch"):
                monkeypatch.setitem(sys.modules, name, Anything(name))


def test_the_python_recipe_builds_the_same_configuration_as_the_yaml(model, monkeypatch):
    wanted = settings(model)
    replace_bridge(recipe._targets(wanted), monkeypatch)
    scope = {"__name__": "recipe"}
    text = recipe.python(wanted, "x", "recipe.py", 1)
    assert (
        "torchrun --nproc-per-node=1 recipe.py" in text and "from megatron.bridge.training.config import (" not in text
    )
    exec(compile("from __future__ import annotations\n" + text, "recipe.py", "exec"), scope)

    def resolved(value):
        if not isinstance(value, dict):
            return value
        if value.get("_call_") is False:
            return {"torch.nn.functional.silu": torch.nn.functional.silu, "torch.float32": torch.float32}[
                value["_target_"]
            ]
        return {key: resolved(each) for key, each in value.items()}

    assert scope["recipe"]() == resolved(wanted)


def test_a_deterministic_recipe_meets_what_bridge_wants_of_it(model, monkeypatch):
    """Bridge's ``validate`` refuses its fused loss and most algorithms of NCCL; Megatron wants ``NVTE_...``."""
    training = "megatron.bridge.training"
    wanted = settings(model, "train.deterministic=true")
    assert wanted["model"]["deterministic_mode"] and wanted["model"]["cross_entropy_loss_fusion"] is False
    assert not {"deterministic_mode", "cross_entropy_loss_fusion"} & settings(model)["model"].keys()
    main = [f"{training}.gpt_step.forward_step", f"{training}.pretrain.pretrain"]
    replace_bridge([*recipe._targets(wanted), *main], monkeypatch)
    for given, algorithm in (({}, "^NVLS"), ({"NCCL_ALGO": "Ring"}, "Ring")):
        monkeypatch.setattr("os.environ", given)
        exec(compile(recipe.python(wanted, "x", "recipe.py", 1), "recipe.py", "exec"), {"__name__": "__main__"})
        others = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0"}
        assert given == {"NCCL_ALGO": algorithm, **others}
    assert "os.environ" not in recipe.python(settings(model), "x", "recipe.py", 1)


STEPS, PEAK = 40, 2.0


@pytest.mark.parametrize(
    "train",
    [
        {"warmup_share": 0.25},
        {"warmup_share": 0.025},
        {"warmup_share": 0.25, "schedule": "wsd"},
        {"warmup_share": 0.1, "schedule": "linear"},
        {"warmup_share": 0.0, "schedule": "constant"},
    ],
    ids=str,
)
def test_bridge_s_learning_rates_equal_ours(train):
    """Megatron's schedule as Bridge sets it up (in samples) and steps it (after the optimizer)."""
    batch, train, phase = 8, TrainConfig(**train), PhaseConfig("all", STEPS, PEAK)
    ours, theirs = (SimpleNamespace(param_groups=[{"lr": 0.0, "weight_decay": 0.0}]) for _ in range(2))
    given = recipe.schedule(phase, train)
    schedule = OptimizerParamScheduler(
        theirs, init_lr=given["lr_warmup_init"], max_lr=PEAK, min_lr=PEAK * train.min_lr_share,
        lr_warmup_steps=given["lr_warmup_iters"] * batch, lr_decay_steps=given["lr_decay_iters"] * batch,
        lr_decay_style=given["lr_decay_style"], wsd_decay_steps=given.get("lr_wsd_decay_iters", 0) * batch,
        lr_wsd_decay_style=given.get("lr_wsd_decay_style"), start_wd=0.1, end_wd=0.1, wd_incr_steps=STEPS * batch,
        wd_incr_style="constant",
    )  # fmt: skip
    mine = _schedule(ours, train, phase)
    for _ in range(STEPS):
        mine.step(1)
        assert theirs.param_groups[0]["lr"] == pytest.approx(ours.param_groups[0]["lr"])
        schedule.step(batch)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.phases=[{train: new_rows, steps: 5}, {steps: 5}]"], "this run has new_rows, all"),
        (["resize.input=warm_start"], "this run has embeddings, all"),
        (["train.z_loss=1e-4"], r"train\.z_loss=0\.0001 has no equivalent"),
        (["train.keep_every=500"], r"train\.keep_every=500 has no equivalent"),
        (["train.reset_attention=true"], r"train\.reset_attention=True has no equivalent"),
        (
            ["train.phases=[{steps: 5, lr_factors: {embeddings: 0.5}}]"],
            r"lr_factors=\{'embeddings': 0\.5\} has no equiv",
        ),
        (["train.no_weight_decay=['*word*']"], "has no equivalent"),
        (["model.path=nowhere"], "nowhere does not exist"),
        (["tp=2"], "Did you mean 'parallel.tp'"),
    ],
)
def test_unsupported_settings_are_refused_before_anything_is_written(model, tmp_path, words, says):
    with pytest.raises(UserError, match=says):
        recipe_command.main([*WORDS, f"model.path={model}", f"run.dir={tmp_path}", *words])
    assert not list(tmp_path.iterdir())


OTHER_VALUES = {
    "train": {
        "phases": "[{steps: 7}]", "seed": 5, "seq_length": 64, "reset_positions": "true", "reset_attention": "true",
        "mask_document_ends": "true", "global_batch": 8, "micro_batch": 2, "schedule": "wsd", "warmup_share": 0.5,
        "decay_share": 0.3, "min_lr_share": 0.2, "weight_decay": 0.3, "no_weight_decay": "[x]", "z_loss": 0.1,
        "adam_beta1": 0.8, "adam_beta2": 0.8, "clip_grad": 2, "max_loss_rise": 3, "precision": "bf16",
        "distributed_optimizer": "false", "recompute": "true", "deterministic": "true", "save_every": 3,
        "save_minutes": 5, "async_save": "false", "keep": 3, "keep_every": 4, "keep_best": "true", "score_every": 6,
        "score_bytes": 9, "attempts": 9, "log_every": 3, "max_wait_minutes": 9, "trace": "[2,3]", "wandb": "p",
    },
    "parallel": {
        "tp": 2, "pp": 2, "virtual": 2, "stage_layers": "[3,1]", "cp": 2, "dp": 2, "sequence": "true",
    },
}  # fmt: skip
"""Of each key of these sections another value than its default."""
NEEDS = {"decay_share": ["train.schedule=wsd"], "virtual": ["parallel.pp=2"], "stage_layers": ["parallel.pp=2"]}


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section in OTHER_VALUES for key in OTHER_VALUES[section]]
)
def test_no_setting_of_the_training_is_dropped_silently(tmp_path, section, key):
    """Each is written, refused or listed in docs/nemo.md."""
    model = make_llama(tmp_path / "model", TinyLlama(vocab=301, layers=4))
    needs, word = NEEDS.get(key, []), f"{section}.{key}={OTHER_VALUES[section][key]}"

    def written(*words):
        config = recipes.of_words([*WORDS, f"model.path={model}", *words])
        recipe.only_phase(config.train.phases, config.train)
        return recipe.python(settings(model, *words), "x", "recipe.py", config.parallel.ranks)

    before = written(*needs)
    try:
        assert written(*needs, word) != before or f"`{section}.{key}`" in DIFFERS
    except UserError as error:
        assert (
            f"{section}.{key}=" in str(error) and "has no equivalent" in str(error) and f"`{section}.{key}`" in REFUSED
        )


def test_other_values_are_given_for_all_settings_of_the_training():
    sections = {"train": TrainConfig, "parallel": ParallelConfig}
    assert {name: [entry.name for entry in fields(kind)] for name, kind in sections.items()} == {
        name: list(given) for name, given in OTHER_VALUES.items()
    }


@pytest.mark.parametrize("name", ["start", "recipe.yaml", "recipe.py"])
def test_a_file_that_nemo_recipe_did_not_make_is_not_replaced(model, tmp_path, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    with pytest.raises(UserError, match=f"{name} exists and is no result of nemo-recipe"):
        recipe_command.main([*WORDS, f"model.path={model}", f"run.dir={tmp_path}", f"out={tmp_path / 'out'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_be_made_is_refused_before_the_stages(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder that you may write to"):
        recipe_command.main([*WORDS, f"model.path={model}", f"run.dir={tmp_path}", f"out={tmp_path / 'file/out'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
