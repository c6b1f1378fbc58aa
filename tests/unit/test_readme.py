"""Commands, keys, make targets, links and file names in the README and the docs are valid."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from nemo_adapt import cli
from nemo_adapt.config import TrainConfig, recipes
from nemo_adapt.config.phases import phases

REPOSITORY = Path(__file__).parent.parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/add-a-model.md",
    "docs/nemo.md",
    "docs/add-a-strategy.md",
    "docs/models.md",
    "docs/plan.md",
    "docs/evaluate.md",
    "docs/tasks.md",
    "docs/probe.md",
    "docs/slurm.md",
    "docs/strategies.md",
    "docs/study.md",
    "docs/tokenizer.md",
    "docs/training.md",
]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line[11:] for line in README.replace("\\\n", " ").splitlines() if line.startswith("nemo-adapt ")]


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_s_commands_compose(command):
    verb, *words = shlex.split(command)
    assert cli.stage_named(verb) == verb
    recipe = next(word.partition("=")[2] for word in words if word.startswith("recipe="))
    config = recipes.load(recipe, [word for word in words if not word.startswith("recipe=")])
    assert config.model.path and config.evaluate.texts


def test_the_training_page_s_command_gives_the_phases_it_describes():
    page = (REPOSITORY / "docs/training.md").read_text(encoding="utf-8")
    ((verb, recipe, *words),) = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("nemo-adapt ")]
    assert verb == "train"
    config = recipes.load(recipe.removeprefix("recipe="), words)
    step = config.train.global_batch * config.train.seq_length
    assert [phase.steps for phase in phases(config, 2.0)] == [20, 40960 // step, -(-100000 // step)]


def test_every_key_on_the_training_page_exists():
    page = (REPOSITORY / "docs/training.md").read_text(encoding="utf-8")
    keys = set(re.findall(r"`(train\.\w+)", page))
    known = {f"train.{each.name}" for each in fields(TrainConfig)}
    assert len(keys) > 15 and keys <= known


def test_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make ([\w-]+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_point_to_existing_files(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http"):
            assert ((REPOSITORY / page).parent / link).exists(), link


def test_the_readme_s_file_tree_names_existing_files():
    tree = README.split("```\nnemo_adapt/\n")[1].split("```")[0]
    for line in tree.splitlines():
        indent = REPOSITORY / "nemo_adapt" if line.startswith("  ") else REPOSITORY
        for name in re.findall(r"[\w/-]+(?:\.\w+|/)(?= |$)", line.split("    ")[0] + " "):
            assert (indent / name).exists(), name
