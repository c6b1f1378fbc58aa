"""The recipes and profiles that come with the package, and a check that a user's recipe can be read."""

from pathlib import Path

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
    package = Path(__file__).parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def names(group: str = "") -> list[str]:
    """Return the names of the recipes that come with the package, or of the choices of a ``group``."""
    return sorted(path.stem for path in (recipes_folder() / group).glob("*.yaml"))


def check_file(path: Path) -> None:
    """Raise ``UserError`` for a recipe that is not YAML or has no ``defaults``."""
    try:
        found = OmegaConf.load(path)
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: {getattr(error, 'problem', None) or 'not valid YAML'}") from None
    if not isinstance(found, DictConfig) or "defaults" not in found:
        raise UserError(f"{path} has no defaults: begin it with the line  defaults: [blank, _self_]")
