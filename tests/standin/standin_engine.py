"""Transformer Engine as it is installed, with ``transformer_engine_torch.py`` for its compiled part."""

import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

COMMON = "transformer_engine.common"
"""What loads its compiled part."""
UNUSED = ("triton", "triton.cross_entropy", "triton.pad", "triton.permutation", "onnx_extensions")
"""What needs Triton or ONNX to be imported, and is called by nobody."""


def install(folder: str) -> None:
    """Have it imported from ``folder``; where none is named, it is not there."""
    if not folder:
        sys.modules["transformer_engine"] = None  # type: ignore[assignment]
        return
    sys.path.append(folder)
    os.environ["NVTE_PROJECT_BUILDING"] = "1"  # it does not look for the libraries of CUDA
    for name in UNUSED:
        sys.modules[f"transformer_engine.pytorch.{name}"] = MagicMock()
    sys.meta_path.insert(0, _Common)  # type: ignore[arg-type]


class _Common:
    """Finds the module that loads the compiled part, and has it load ours."""

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
