"""From a recipe and ``key=value`` words to a typed configuration (Hydra over the dataclasses of ``config``)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

ConfigStore.instance().store(name="schema", node=Config)
T = TypeVar("T")


def recipes_folder() -> Path:
    """The recipes: beside the package in a checkout, inside it where it was installed."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def load(recipe: str, overrides: list[str]) -> Config:
    """The configuration of ``recipe`` (a name, or the path of a YAML file) with ``overrides`` (Hydra's grammar).

    Raises ``UserError`` for an unknown recipe, an unknown key (with the nearest one) and a value of the wrong type.
    """
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else recipes_folder() / f"{recipe}.yaml"
    if not path.is_file():
        if path.suffix and recipe.endswith(path.suffix):
            raise UserError(f"recipe file {recipe} does not exist")
        raise UserError(f"unknown recipe {recipe!r}.{nearest(recipe, names())} Recipes: {', '.join(names())}")
    search = f"hydra.searchpath=[file://{recipes_folder()}]"
    try:
        with initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
            chosen = compose(path.stem, [search, *map(_opened, overrides), f"recipe={path.stem}"])
        return typed(chosen)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from None


def read(path: Path) -> Config:
    """A configuration that was saved resolved (a run's config.yaml)."""
    try:
        return typed(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_explain(error)}") from None


def parse(schema: type[T], words: list[str]) -> T:
    """The settings of a command that is no stage: ``schema`` (a dataclass) with ``key=value`` words (Hydra's grammar).

    Raises ``UserError`` as ``load`` does.
    """
    odd = [word for word in words if "=" not in word]
    if odd:
        raise UserError(f"{odd[0]!r} is not of the form key=value")
    config = OmegaConf.structured(schema)
    try:
        for word in OverridesParser.create().parse_overrides(words):
            OmegaConf.update(config, word.key_or_group, word.value())
        return cast(T, OmegaConf.to_object(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, schema)) from None


def require(command: str, settings: Any, names: Sequence[str]) -> None:
    """``UserError`` naming the folders that a command was not given."""
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        raise UserError(
            f"{command}: no value for {', '.join(missing)}: give {' '.join(f'{name}=FOLDER' for name in missing)}"
        )


def typed(config: Any) -> Config:
    """The dataclass tree of a composed configuration, interpolations resolved, every mandatory value there."""
    mandatory = (("run", "name"), ("model", "path"))
    missing = [f"{part}.{key}" for part, key in mandatory if OmegaConf.is_missing(config[part], key)]
    if missing:
        raise UserError(f"no value for {', '.join(missing)}: set it in the recipe or on the command line")
    return cast(Config, OmegaConf.to_object(config))


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def section(config: Config, *names: str) -> dict[str, Any]:
    """Some sections (or dotted keys) of a configuration as plain values, for manifests."""
    tree = cast(DictConfig, OmegaConf.structured(config))
    found = {}
    for name in names:
        value = OmegaConf.select(tree, name)
        found[name] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return found


def _opened(override: str) -> str:
    """An override that may name a new key of a dictionary (``evaluate.texts.tr=...``) in Hydra's grammar for it."""
    tables = ("evaluate.texts.", "tokenizer.parallel.")
    return f"++{override}" if override.startswith(tables) else override


def _explain(error: Exception, schema: type = Config) -> str:
    """One line for a composition error, with the nearest known key where a key was misspelt."""
    chain = list(_causes(error))
    for cause in chain:
        key = str(getattr(cause, "full_key", None) or "")
        if key and "not in" in str(cause):
            unnumbered = re.sub(r"\[\d+\]", "", key)
            known = _known_keys(schema)
            if "." not in key:  # inside a list only the last part is known
                whole = [name for name in known if name.endswith(f".{key}")]
                known = whole or [name.rpartition(".")[2] for name in known]
                unnumbered = whole[0] if whole else unnumbered
            return f"unknown key {key!r}.{nearest(unnumbered, known)}"
        if isinstance(cause, InterpolationToMissingValueError):
            return f"no value for {str(cause).split(': ')[-1].split()[0]}: set it in the recipe or on the command line"
    keyed = next((cause for cause in chain if getattr(cause, "full_key", None)), None)
    reason = str(keyed or chain[0]).strip().splitlines()[0]
    return f"{keyed.full_key}: {reason}" if keyed else reason  # type: ignore[attr-defined]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _known_keys(schema: type) -> list[str]:
    """All dotted keys of a schema; those of list entries without their numbers."""

    def walk(schema: Any, prefix: str) -> Iterator[str]:
        for entry in fields(schema):
            yield f"{prefix}{entry.name}"
            inner = get_args(entry.type)[0] if get_args(entry.type) else entry.type
            if is_dataclass(inner):
                yield from walk(inner, f"{prefix}{entry.name}.")

    return list(walk(schema, ""))
