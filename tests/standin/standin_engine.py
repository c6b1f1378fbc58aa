"""Import the real Transformer Engine with ``transformer_engine_torch.py`` in the place of its compiled extension."""

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

COMMON = "transformer_engine.common"
"""The module that loads the compiled extension."""
UNUSED = ("triton", "triton.cross_entropy", "triton.pad", "triton.permutation", "onnx_extensions")
"""Modules that need Triton or ONNX to be imported, and are not called here."""


def install(folder: str) -> None:
    """Make Transformer Engine importable from ``folder``; if that is empty, make its import fail."""
    if not folder:
        sys.modules["transformer_engine"] = None  # type: ignore[assignment]
        return
    sys.path.append(folder)
    os.environ["NVTE_PROJECT_BUILDING"] = "1"  # keeps it from loading CUDA's libraries
    for name in UNUSED:
        sys.modules[f"transformer_engine.pytorch.{name}"] = MagicMock()
    sys.meta_path.insert(0, _Common)  # type: ignore[arg-type]


class _Common:
    """Import hook that makes ``COMMON`` load our extension."""

    @staticmethod
    def find_spec(name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == COMMON else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            module.load_framework_extension = lambda framework: importlib.import_module("transformer_engine_torch")

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
