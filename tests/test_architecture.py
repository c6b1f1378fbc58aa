"""Structure of the package: allowed imports, where devices are named, file lengths, one list of the stages."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nemo_adapt"
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 300

STAGES = {"tokenizer", "data", "auxiliary", "convert", "probe", "resize", "train", "export", "evaluate"}
"""Modules or packages that are stages: they exchange data through folders on disk and do not import each other."""
MAY_IMPORT = {
    "train": {"resize", "evaluate"},  # it resizes in memory; held-out text is scored as the report scores it
    "run/checks": {"resize"},  # the names of the strategies
    "run/preflight": {"tokenizer"},  # checks that its settings are consistent
    "run/reads": {"resize"},  # what the strategies need
    "cli": {"evaluate", "probe"},  # the headline of the report, the probe's table
    "export_command": {"export"},  # the same for one checkpoint
    "study": {"evaluate"},  # its tables, pages and bars
    "probe": {"resize", "train"},  # it runs short trainings
}
HEAVY = {"torch", "numba", "transformers", "megatron", "matplotlib", "scipy", "sentencepiece", "pyarrow", "zstandard"}
LIGHT = {
    "cli",
    "pipeline",
    "run/steps",
    "run/reads",
    "run/checks",
    "run/preflight",
    "hf_model/model_config",
    "hf_model/model_files",
    "strategy_choice",
    "machine/doctor",
    "run/run_folder",
    "config/__init__",
    "config/cluster",
    "config/evaluation",
    "config/launch",
    "config/model",
    "config/resize",
    "config/text",
    "config/training",
    "config/recipes",
    "errors",
    "console/output",
    "launch/cancel",
    "launch/chain",
    "launch/command",
    "launch/container",
    "launch/paths",
    "launch/sbatch",
    "launch/slurm",
    "launch/submit",
    "launch/messages",
    "machine/starts",
    "registry",
    "partition",
    "corpora/lines",
    "corpora/parquet",
    "corpora/text",
    "corpora/text_files",
    "console/progress",
    "run/artifact",
    "run/inputs",
    "run/manifest",
    "run/restart",
    "files",
    "machine/facts",
    "machine/locks",
    "config/manual",
    "machine/ranks",
    "machine/fork_server",
    "machine/fork_server_end",
    "machine/gpus",
    "machine/launcher",
    "machine/workers",
    "hf_model/weight_files",
    "config/phases",
    "config/layout",
    "plan/activations",
    "plan/budget",
    "plan/command",
    "plan/memory",
    "plan/model",
    "plan/needs",
    "plan/report",
    "plan/search",
    "plan/speed",
    "corpora/mixture",
    "status/cells",
    "status/command",
    "status/jobs",
    "status/stages",
    "status/run_files",
    "status/training",
    "study/array",
    "study/cells",
    "study/command",
    "study/start",
    "study/work",
    "tokenizer/settings",
    "config/bounds",
    "config/recipe_errors",
    "config/groups",
    "config/field_types",
    "config/recipe_files",
    "config/overrides",
    "console/printed",
    "training_files",
    "checkpoint/folders",
    "checkpoint/integrity",
    "checkpoint/scores",
}
"""Modules that import no slow package at the top: a misspelt command is reported without waiting for torch."""


def component_of(path: Path) -> str:
    """First component of a file's path in the package: ``train`` for train/step.py, ``cli`` for cli.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    """A file's path in the package without its suffix: ``run/reads``."""
    return str(path.relative_to(PACKAGE).with_suffix(""))


def imports_of(path: Path, top_level_only: bool = False) -> set[str]:
    """Full names of what a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_package_files_and_stages_are_found():
    assert len(FILES) > 30
    assert {component_of(path) for path in FILES} >= STAGES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_stages_do_not_import_each_other(path):
    component = component_of(path)
    allowed = MAY_IMPORT.get(component, set()) | MAY_IMPORT.get(name_of(path), set())
    own = {f"nemo_adapt.{name}" for name in STAGES - {component} - allowed}
    wrong = {name for name in imports_of(path) if any(name == other or name.startswith(f"{other}.") for other in own)}
    assert not wrong


@pytest.mark.parametrize(
    ("name", "stage"), [(name, stage) for name in MAY_IMPORT for stage in sorted(MAY_IMPORT[name])]
)
def test_modules_import_the_stages_that_they_may_import(name, stage):
    """An exception that nothing needs any more would let such an import come back unseen."""
    own = [path for path in FILES if name in (component_of(path), name_of(path))]
    assert any(f"{imported}.".startswith(f"nemo_adapt.{stage}.") for path in own for imported in imports_of(path))


def module_of(path: Path) -> str:
    """Full name of a file's module."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_go_in_one_direction():
    """No file imports, through any others, one that imports it."""
    modules = {module_of(path) for path in FILES}
    imports = {}
    for path in FILES:
        names = imports_of(path)
        found = {name if name in modules else name.rpartition(".")[0] for name in names} & modules
        imports[module_of(path)] = found - {"nemo_adapt"}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_devices_py_names_devices(path):
    text = path.read_text(encoding="utf-8")
    if name_of(path) != "devices":
        assert not re.search(r"""["'](cuda|nccl|gloo)["':]|torch\.cuda""", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_patches_and_devices_py_monkeypatch_megatron(path):
    """No other file sets an attribute of a module or class that it imports from megatron."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    theirs = {
        alias.asname or alias.name for node in imported if node.module.startswith("megatron") for alias in node.names
    }
    if component_of(path) != "patches" and name_of(path) != "devices":
        assert not theirs & set(names_changed(tree))


def names_changed(tree):
    """Names to whose attributes something is assigned, or set by ``setattr``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    yield target.value.id
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr" and isinstance(node.args[0], ast.Name):
            yield node.args[0].id


def test_strategies_import_no_torch_megatron_or_file_modules():
    for path in (PACKAGE / "resize" / "strategies").glob("*.py"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & {"torch", "megatron", "pathlib", "os"}, path.name


@pytest.mark.parametrize("name", sorted(LIGHT))
def test_light_modules_import_no_slow_packages_at_top_level(name):
    roots = {imported.split(".")[0] for imported in imports_of(PACKAGE / f"{name}.py", top_level_only=True)}
    assert not roots & HEAVY


def test_only_pipeline_py_lists_all_stages():
    named = [
        path.name
        for path in FILES
        if sum(f'"{stage}"' in path.read_text(encoding="utf-8") for stage in STAGES) >= len(STAGES) - 1
    ]
    assert named == ["pipeline.py"]
