"""The ``--help`` page of a command: its module's docstring, and the keys of its settings with their docstrings."""

import ast
import dataclasses
import importlib.util
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from nemo_adapt.config import Config

SECTIONS = {
    "train": ("train", "parallel"),
    "convert": ("model", "convert"),
    "plan": ("plan", "cluster"),
    "launch": ("launch", "site"),
    "compare": ("evaluate",),
    "resize-hf": ("resize", "export"),
    "export-hf": ("export",),
}
"""Command -> sections of the schema on its page, where they are not the one of its name."""
INDENT = " " * 4
RECIPES = """nemo-adapt recipes

List the recipes that come with the package: recipe=NAME takes one, and a file of yours may begin with it."""
STAGE = """nemo-adapt {} recipe=NAME [key=value ...]

A recipe holds the keys of all stages; those of the others are on their own pages."""


def page(command: str, module: str = "") -> str:
    """Return the help of ``command``; ``module`` runs it, if it is not a stage of a run."""
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    parts = [_module_docstring(module) if module else RECIPES if command == "recipes" else STAGE.format(command)]
    if own := "\n".join(_own_keys(module)) if module else "":
        parts.append(own)
    for section in SECTIONS.get(command, (command,)):
        if section in sections:
            parts.append("\n".join(_keys(sections[section], section)))
    return "\n\n".join(parts) + "\n"


def _module_docstring(module: str) -> str:
    return (ast.get_docstring(_source(module)) or "").replace("``", "")


def _source(module: str) -> ast.Module:
    """Return the syntax tree of a module without importing it, which may take seconds."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _own_keys(module: str) -> Iterator[str]:
    """Yield the keys of a command that has settings of its own (``recipes.parse``), each with its default and its
    docstring; those of a section of recipes only with its docstring."""
    source = _source(module)
    parsed = {
        ast.unparse(call.args[0])
        for call in ast.walk(source)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "recipes.parse"
    }
    for schema in source.body:
        if isinstance(schema, ast.ClassDef) and schema.name in parsed:
            said = _docstrings_of(schema)
            for field in schema.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    name = field.target.id
                    is_section = ast.unparse(field.annotation).endswith("Config")
                    yield f"{name}.KEY=..." if is_section else f"{name}={_written_default(field.value)}"
                    yield textwrap.indent(said.get(name, ""), INDENT)


def _written_default(value: ast.expr | None) -> str:
    """Format a default in source code as on the command line."""
    if isinstance(value, ast.Constant):
        return _shown(value.value)
    return {"field(default_factory=list)": "[]", "field(default_factory=dict)": "{}"}.get(
        ast.unparse(value) if value else "", "..."
    )


def _keys(section: Any, prefix: str) -> Iterator[str]:
    """Yield the keys of a dataclass, each with its default and its docstring."""
    said = _field_docstrings(section)
    for field in dataclasses.fields(section):
        key = f"{prefix}.{field.name}"
        inner = next((kind for kind in (field.type, *get_args(field.type)) if dataclasses.is_dataclass(kind)), None)
        if inner is None:
            yield f"{key}={_default(field)}"
        elif inner is not field.type:
            yield f"{key}:"
            key = f"{key}.{'0' if str(field.type).startswith('list') else 'NAME'}"
        if field.name in said:
            yield textwrap.indent(said[field.name], INDENT)
        if inner is not None:
            yield from _keys(inner, key)


def _field_docstrings(section: Any) -> dict[str, str]:
    """Return the docstring of each field: the bare string after it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    assert isinstance(body, ast.ClassDef)
    return _docstrings_of(body)


def _docstrings_of(body: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(str(said.value.value)).replace("``", "")
        for field, said in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(said, ast.Expr)
        and isinstance(said.value, ast.Constant)
    }


def _default(field: dataclasses.Field[Any]) -> str:
    """Format a default as on the command line; ``...`` where a value is required."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value == "???":  # omegaconf.MISSING
        return "..."
    if isinstance(value, list | dict):
        brackets = "[]" if isinstance(value, list) else "{}"
        inside = value if isinstance(value, list) else [f"{key}: {one}" for key, one in value.items()]
        return brackets[0] + ", ".join(map(str, inside)) + brackets[1]
    return _shown(value)


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
