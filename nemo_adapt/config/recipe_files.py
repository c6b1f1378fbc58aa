"""The recipes and profiles that come with the package, and a check that a user's recipe can be read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import KeyValidationError

from nemo_adapt.config import ClusterConfig, Config, ModelConfig, SiteConfig
from nemo_adapt.config.field_types import type_below
from nemo_adapt.errors import UserError, one_line

GROUPS = ("model", "language", "train", "cluster")
"""Folders of ``recipes/``: a file chosen as ``cluster=NAME`` sets that section (a ``language``: several sections)."""
MISREAD = re.compile(r"[-+]?(0[0-7]+|[1-9]\d*(:[0-5]?\d)+)")
"""What YAML reads as an octal number, or as a number to the base 60: a time limit in seconds, which Slurm would take
for minutes."""

SCHEMAS = (Config, SiteConfig, ModelConfig, ClusterConfig)
"""Schemas of the YAML files that users write: a recipe, a site's profile, a model's and a cluster's file. A key that is
a string in one of them is a string in all."""
ALSO_BOOLEAN = ("keep_marks", "target", "reference", "wandb")
"""Texts in place of which YAML's true and false are taken, or refused later on (``recipes.typed``)."""


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
    _check_composed(path, found["defaults"], {path})
    return found


def _check_composed(path: Path, defaults: Any, seen: set[Path]) -> None:
    """Raise ``UserError`` as ``load_file`` for the user's other files in the ``defaults`` of the file at ``path``."""
    for entry in defaults if isinstance(defaults, list) else ():
        for group, name in entry.items() if isinstance(entry, dict) else [("", entry)]:
            place = path.parent / str(group).split(" ")[-1].strip("/") / f"{name}.yaml"
            if place not in seen and place.is_file() and not place.is_relative_to(recipes_folder()):
                seen.add(place)
                inner = OmegaConf.to_container(load_file(place))
                _check_composed(place, inner.get("defaults") if isinstance(inner, dict) else None, seen)


def load_file(path: Path, wanted: str = "does not consist of lines  key: value") -> DictConfig:
    """Return the keys of a YAML file. ``UserError`` for one that is not YAML, not text, or has no keys (``wanted``),
    and for a value that YAML reads as another number than it says, or, where a text is wanted, as anything else than
    the word that is written (``on``, ``2024_01``)."""
    try:
        found = OmegaConf.load(path)
        text = path.read_text(encoding="utf-8")
        events = list(yaml.parse(text, yaml.SafeLoader))
    except OSError as error:
        if error.errno:
            raise
        found = None  # OmegaConf's error for a file that holds one number
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: {getattr(error, 'problem', None) or 'not valid YAML'}") from None
    except RecursionError:
        raise UserError(f"{path}: it is nested too deeply, or an alias (*) stands in what it names (&)") from None
    except KeyValidationError as error:  # null
        said = one_line(error).partition(" full_key")[0]
        raise UserError(f"{path} has a key that is no word ({said}): put it in quotes") from None
    if not isinstance(found, DictConfig):
        raise UserError(f"{path} {wanted}")
    for event in events:
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and MISREAD.fullmatch(event.value):
            raise _misread(path, event, yaml.safe_load(event.value))
    values, node = OmegaConf.to_container(found), yaml.compose(text, yaml.SafeLoader)
    for written, value in (pair for schema in SCHEMAS for pair in _texts(node, values, schema)):
        if isinstance(value, (bool, int, float)) and str(value) != written.value:
            raise _misread(path, written, value)
    return found


def _misread(path: Path, node: Any, value: Any) -> UserError:
    """Return the error for a scalar of a YAML file (a node or an event) that is read as another ``value``."""
    where = f"{path}, line {node.start_mark.line + 1}"
    return UserError(f'{where}: YAML reads {node.value} as {value}: put it in quotes, as "{node.value}"')


def _texts(node: Any, value: Any, kind: Any, key: str = "") -> Iterator[tuple[Any, Any]]:
    """Yield what stands in a YAML document where ``kind`` has texts, as pairs of a node and the value that it is read
    as. ``key``: the last part of the key whose ``value`` and ``node`` are given."""
    if kind is str and not (isinstance(value, bool) and key in ALSO_BOOLEAN):
        yield node, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(value, list):
        for each, inner in zip(node.value, value, strict=True):
            yield from _texts(each, inner, type_below(kind, key))
    elif isinstance(node, yaml.MappingNode) and isinstance(value, dict):
        for name, each in node.value:
            yield from _texts(each, value.get(name.value), type_below(kind, str(name.value)), str(name.value))
