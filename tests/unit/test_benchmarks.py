"""Benchmarks, which `make test` does not run, keep up with the package."""

import ast
import contextlib
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_names_that_a_benchmark_imports_from_the_package_exist(path):
    """Also those that it imports only on its ranks, within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nemo_adapt":
            module = importlib.import_module(node.module)
            for name in node.names:
                with contextlib.suppress(ImportError):  # a module, which importing makes an attribute
                    importlib.import_module(f"{node.module}.{name.name}")
                assert hasattr(module, name.name), f"{path}:{node.lineno}: no {name.name} in {node.module}"
