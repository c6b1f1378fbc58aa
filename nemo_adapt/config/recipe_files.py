"""The recipes and profiles that come with the package, and a check that a user's recipe can be read."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from nemo_adapt.errors import UserError

GROUPS = ("model", "language", "train", "cluster")
"""Folders of ``recipes/``: a file chosen as ``cluster=NAME`` sets that section (a ``language``: several sections)."""


def recipes_folder() -> Path:
    """Return the folder of recipes: beside the package in a checkout, inside it where it was installed."""
    return shipped("recipes")


def shipped(folder: str) -> Path:
    """Return a folder of the checkout, or of the package where it was installed."""
    package = Path(__file__).parents[1]
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def names(group: str = "") -> list[str]:
    """Return the names of the recipes that come with the package, or of the choices of a ``group``."""
    return sorted(path.stem for path in (recipes_folder() / group).glob("*.yaml"))


def load_recipe(path: Path) -> dict[Any, Any]:
    """Return a recipe's own settings, without its ``defaults``' and unresolved; ``UserError`` if it is not YAML or has
    none of these."""
    wanted = "has no defaults: begin it with the line  defaults: [blank, _self_]"
    found = OmegaConf.to_container(load_file(path, wanted))
    assert isinstance(found, dict)
    if "defaults" not in found:
        raise UserError(f"{path} {wanted}")
    return found


def load_file(path: Path, wanted: str = "does not consist of lines  key: value") -> DictConfig:
    """Return the keys of a YAML file. ``UserError`` for one that is not YAML, not text, or has no keys (``wanted``)."""
    try:
        found = OmegaConf.load(path)
    except OSError as error:
        if error.errno:
            raise
        found = None  # OmegaConf's error for a file that holds one number
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: {getattr(error, 'problem', None) or 'not valid YAML'}") from None
    if not isinstance(found, DictConfig):
        raise UserError(f"{path} {wanted}")
    return found
