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
    "resize-hf": ("resize",),
}
"""Command -> sections of the schema on its page, where they are not the one of its name."""
INDENT = " " * 4
STAGE = """nemo-adapt {} recipe=NAME [key=value ...]

A recipe holds the keys of all stages; those of the others are on their own pages."""


def page(command: str, module: str = "") -> str:
    """Return the help of ``command``; ``module`` runs it, if it is not a stage of a run."""
    sections = {field.name: field.type for field in dataclasses.fields(Config)}
    parts = [_module_docstring(module) if module else STAGE.format(command)]
    for section in SECTIONS.get(command, (command,)):
        if section in sections:
            parts.append("\n".join(_keys(sections[section], section)))
    return "\n\n".join(parts) + "\n"


def _module_docstring(module: str) -> str:
    """Return a module's docstring without importing the module, which may take seconds."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").replace("``", "")


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
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
