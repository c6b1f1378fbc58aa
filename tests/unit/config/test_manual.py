"""``--help`` lists every key of the schema, and has a page for every command."""

import dataclasses
import importlib
import re
from pathlib import Path
from typing import get_args

import pytest

from nemo_adapt.cli import OTHER_COMMANDS, command
from nemo_adapt.config import Config, manual
from nemo_adapt.errors import UserError
from nemo_adapt.pipeline import names

ELSEWHERE = {"recipe"}
"""Keys that the command line sets by itself."""


def keys_of(section, prefix=""):
    for field in dataclasses.fields(section):
        inner = next((kind for kind in (field.type, *get_args(field.type)) if dataclasses.is_dataclass(kind)), None)
        if inner is None:
            yield prefix + field.name
        else:
            between = "" if inner is field.type else "0." if str(field.type).startswith("list") else "NAME."
            yield from keys_of(inner, f"{prefix}{field.name}.{between}")


def test_every_key_of_the_schema_is_on_a_help_page():
    pages = [manual.page(name, OTHER_COMMANDS.get(name, "")) for name in (*names(), "run", *OTHER_COMMANDS)]
    shown = {line.partition("=")[0] for page in pages for line in page.splitlines() if line[:1].islower()}
    assert set(keys_of(Config)) - ELSEWHERE <= shown


@pytest.mark.parametrize("name", [*OTHER_COMMANDS, *names(), "run"])
def test_every_command_has_a_help_page(name, capsys):
    command(name, ["recipe=demo", "--help"])
    said = capsys.readouterr().out
    assert f"nemo-adapt {name}" in said and "``" not in said


def test_the_list_of_recipes_has_a_help_page(capsys):
    command("recipes", ["--help"])
    assert capsys.readouterr().out.startswith("nemo-adapt recipes\n\nList the recipes")
    with pytest.raises(UserError, match="recipes only lists their names: 'demo'"):
        command("recipes", ["demo"])
    command("recipes", [])
    assert "demo" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", OTHER_COMMANDS)
def test_every_own_key_of_a_command_is_on_its_help_page(name):
    """Keys of the dataclass that its words are parsed into; those of sections are on the page as well."""
    module = importlib.import_module(OTHER_COMMANDS[name])
    parsed = re.findall(r"recipes\.parse\((\w+),", Path(module.__file__).read_text())
    page = manual.page(name, OTHER_COMMANDS[name]).splitlines()
    for schema in parsed:
        for field in dataclasses.fields(getattr(module, schema)):
            begins = (f"{field.name}=", f"{field.name}.")
            assert any(line.startswith(begins) for line in page), field.name
    assert bool(parsed) == (
        name
        in ("compare", "doctor", "verify", "status", "inspect", "fertility", "export-hf", "export-bridge", "resize-hf")
    )


def test_defaults_of_own_keys_are_written_as_on_the_command_line():
    page = manual.page("compare", OTHER_COMMANDS["compare"])
    assert "\nmodels={}\n    Name -> Hugging Face folder" in page and "\nout=comparison\n" in page
    assert "\nevaluate.texts={}\n" in page and "\ntokens=[]\n" in manual.page("inspect", OTHER_COMMANDS["inspect"])


def test_defaults_are_written_as_on_the_command_line(capsys):
    command("train", ["-h"])
    said = capsys.readouterr().out
    assert "train.phases.0.train=all\n    What is trained: new_rows" in said
    assert "train.reset_positions=false\n" in said and "parallel.tp=1\n" in said


def test_help_of_an_unknown_command_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown command 'tokeniser'\. Did you mean 'tokenizer'"):
        command("tokeniser", ["--help"])
