"""The study of docs/study.md is one that can be run."""

import re
from pathlib import Path

import pytest

from nemo_adapt import recipes
from nemo_adapt.study.cells import cells
from nemo_adapt.study.command import checked

PAGE = Path(__file__).parents[3] / "docs" / "study.md"


def test_the_page_s_study_composes(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    path = tmp_path / "my_study.yaml"
    path.write_text(text, encoding="utf-8")
    config = recipes.load(str(path), [])
    found = cells(config.study)
    assert len(found) == (1 + 2 * 2) * 2 * 3
    configs = checked(found, str(path), ["model.path=elsewhere"], config.study.match)
    chosen = configs["800", "random_init", "none"]
    assert chosen.tokenizer.new_tokens == 800 and chosen.resize.input == "random_init"
    assert chosen.data.replay_share == 0 and chosen.model.path == "elsewhere"


def test_a_misspelt_word_of_an_axis_is_said_with_its_cell(tmp_path):
    path = tmp_path / "my_study.yaml"
    path.write_text(
        "defaults: [demo, _self_]\n"
        "train: {phases: [{bytes: 1000}]}\n"
        "study: {seeds: 1, axes: {size: {a: [tokenizer.new_token=5]}}}\n",
        encoding="utf-8",
    )
    study = recipes.load(str(path), []).study
    with pytest.raises(recipes.UserError, match=r"cell a-seed0: .*Did you mean 'tokenizer\.new_tokens'"):
        checked(cells(study), str(path), [], study.match)
