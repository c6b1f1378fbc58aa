"""The commands of docs/slurm.md work, and the keys that it names exist."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from helpers.worlds import small_world

from nemo_adapt import cli
from nemo_adapt.config import Config, recipe_errors

PAGE = (Path(__file__).parent.parent.parent.parent / "docs/slurm.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("nemo-adapt launch ")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder in which the demo's first half has been run."""
    place = small_world(tmp_path_factory.mktemp("world"))
    shutil.copytree(place / "runs/smallworld/base", place / "runs/demo_base/export")
    return place


@pytest.mark.parametrize("command", COMMANDS)
def test_docs_dry_runs_show_four_scripts(world, monkeypatch, capsys, command):
    monkeypatch.chdir(world)
    verb, *words = shlex.split(command)[1:]
    assert "launch.dry_run=true" in words
    cli.command(verb, words)
    shown = capsys.readouterr().out
    assert shown.count("#!/usr/bin/env bash") == 4
    for key in ("partition", "account"):
        wanted = next((word.partition("=")[2] for word in words if word.startswith(f"site.{key}=")), None)
        assert wanted is None or f"#SBATCH --{key}={wanted}" in shown


def test_docs_have_three_launch_commands():
    assert len(COMMANDS) == 3


def test_docs_name_only_existing_keys():
    keys = set(re.findall(r"`((?:site|launch|train)\.[a-z_.]+)", PAGE))
    assert len(keys) >= 8
    assert keys <= set(recipe_errors._known_keys(Config))
