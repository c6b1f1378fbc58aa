"""The study and the command in docs/study.md are valid."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers.worlds import small_world

from nemo_adapt import cli
from nemo_adapt.config import recipes
from nemo_adapt.study.cells import cells
from nemo_adapt.study.command import checked

PAGE = Path(__file__).parents[3] / "docs" / "study.md"


def test_docs_study_is_composed_and_valid(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    path = tmp_path / "my_study.yaml"
    path.write_text(text, encoding="utf-8")
    config = recipes.load(str(path), [])
    found = cells(config.study)
    assert len(found) == (1 + 2 * 2) * 2 * 3
    configs = checked(found, str(path), ["model.path=elsewhere"], config.study.match)
    chosen = configs["800", "random_init", "none"].config
    assert chosen.tokenizer.new_tokens == 800 and chosen.resize.input == "random_init"
    assert chosen.data.replay_share == 0 and chosen.model.path == "elsewhere"


def test_docs_array_command_renders_three_scripts(tmp_path, monkeypatch, capsys):
    page = PAGE.read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    small_world(tmp_path)
    shutil.copytree(tmp_path / "runs/smallworld/base", tmp_path / "runs/demo_base/export")
    (tmp_path / "my_study.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (command,) = [line for line in page.splitlines() if line.startswith("nemo-adapt study ") and "dry_run" in line]
    cli.command("study", shlex.split(command)[2:])
    shown = capsys.readouterr().out
    assert shown.count("#!/usr/bin/env bash") == 3
    assert "#SBATCH --array=0-15" in shown and "#SBATCH --gpus-per-node=2" in shown  # the demo's cells have two ranks


def test_misspelt_key_of_an_axis_is_reported_with_its_cell(tmp_path):
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
