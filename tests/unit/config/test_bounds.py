"""Bounds of the numbers in a configuration, and settings of late stages that are checked at the start."""

import pytest
from helpers.command import nemo_adapt

from nemo_adapt import pipeline
from nemo_adapt.config import Config, recipes
from nemo_adapt.config.bounds import BOUNDS, check_numbers
from nemo_adapt.errors import UserError
from nemo_adapt.run import preflight

NEEDED = ["run.name=x", "model.path=/nowhere"]


def test_every_bound_belongs_to_a_setting_and_allows_its_default():
    config = Config()
    for key, (least, most) in BOUNDS.items():
        section, name = key.split(".")
        assert least <= getattr(getattr(config, section), name) <= most, key


@pytest.mark.parametrize("name", ["llama3_70b_hi", "stories260k_tr", "demo"])
def test_recipes_are_within_the_bounds(name):
    check_numbers(recipes.load(name, NEEDED))


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("train.seq_length=-5", "train.seq_length=-5 must be at least 1"),
        ("parallel.dp=0", "parallel.dp=0 must be at least 1"),
        ("train.min_lr_share=3", "train.min_lr_share=3.0 must be from 0 to 1"),
        ("train.adam_beta1=1.5", "train.adam_beta1=1.5 must be from 0 to 0.999999"),
        ("evaluate.batch=0", "evaluate.batch=0 must be at least 1"),
        ("tokenizer.new_tokens=-1", "tokenizer.new_tokens=-1 must be at least 0"),
        ("tokenizer.guard_share=2", "tokenizer.guard_share=2.0 must be from 0 to 1"),
        ("tokenizer.guard_share=nan", "tokenizer.guard_share=nan must be from 0 to 1"),
        ("tokenizer.sample_documents=-5", "tokenizer.sample_documents=-5 must be at least 0"),
        ("tokenizer.max_words=0", "tokenizer.max_words=0 must be at least 1"),
        ("tokenizer.target_disparity=-1", "tokenizer.target_disparity=-1.0 must be at least 0"),
        ("train.clip_grad=-1", "train.clip_grad=-1.0 must be at least 0"),
        ("train.z_loss=inf", "train.z_loss=inf must be at least 0"),
        ("evaluate.shots.xnli=-1", "evaluate.shots.xnli=-1 must be at least 0"),
        ("site.cpu.cpus=-4", "site.cpu.cpus=-4 must be at least 0"),
        ("resize.wechsel_temperature=0", "resize.wechsel_temperature=0.0 must be at least 1e-06"),
    ],
)
def test_numbers_outside_their_bounds_are_refused(word, says):
    with pytest.raises(UserError) as error:
        check_numbers(recipes.load("blank", [*NEEDED, word]))
    assert str(error.value) == says


def test_a_number_outside_its_bounds_is_reported_before_anything_starts(tmp_path):
    answer = nemo_adapt("run", "recipe=blank", "run.name=x", "model.path=/nowhere", "evaluate.batch=0", cwd=tmp_path)
    assert answer.code == 2 and answer.err.strip() == "nemo-adapt: error: evaluate.batch=0 must be at least 1"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["export.checkpoint=best"], "export.checkpoint=best needs train.keep_best=true"),
        (["export.checkpoint=newest"], "'newest' is not one of last, best"),
        (["evaluate.texts.tr=/x", "evaluate.target=xx"], "'xx' is not a language of evaluate.texts \\(tr\\)"),
    ],
)
def test_missing_settings_of_late_stages_are_reported_before_the_first(words, says):
    config = recipes.load("blank", [*NEEDED, *words])
    with pytest.raises(UserError, match=says):
        preflight.check_end(config, set(pipeline.names()))
    preflight.check_end(config, {"tokenizer"})
