"""From a recipe and ``key=value`` words to a typed configuration (Hydra over the dataclasses of ``config``)."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from nemo_adapt.config import Config, SetConfig
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

GROUPS = ("model", "language", "train", "cluster")
"""Folders of ``recipes/``: a file of one, chosen as ``cluster=NAME``, sets that section (a ``language``, several)."""
SITE = "site"
"""The group of the profiles of sites, which lie in ``slurm/`` or where the user has them."""
ConfigStore.instance().store(name="fields", node=Config)
DEFAULTS = ["fields", *({group: None} for group in (*GROUPS, SITE))]
ConfigStore.instance().store(name="schema", node={"defaults": DEFAULTS})
LIST, TABLE = "a list is wanted: {key}=[...]", "names with values are wanted: {key}.NAME=..."
PLAINER = {
    "is not a ListConfig": LIST,
    "Cannot assign": TABLE,
    "is not a subclass of": TABLE,
    "is not Optional": "it cannot be null: leave {key} out for its default",
}
"""Part of what OmegaConf says, and what is said for it."""
T = TypeVar("T")
SETS = "data.sets."


def recipes_folder() -> Path:
    """The recipes: beside the package in a checkout, inside it where it was installed."""
    return _shipped("recipes")


def _shipped(folder: str) -> Path:
    package = Path(__file__).parent
    installed = package / folder
    return installed if installed.is_dir() else package.parent / folder


def names(group: str = "") -> list[str]:
    """Names of the recipes that come with the package, or of the choices of a ``group``."""
    return sorted(path.stem for path in (recipes_folder() / group).glob("*.yaml"))


def load(recipe: str, overrides: list[str]) -> Config:
    """The configuration of ``recipe`` (a name, or the path of a YAML file) with ``overrides`` (Hydra's grammar).

    Raises ``UserError`` for an unknown recipe, an unknown key (with the nearest one) and a value of the wrong type.
    """
    return with_values(composed(recipe, overrides), {})


def composed(recipe: str, overrides: list[str]) -> DictConfig:
    """The same, its interpolations not resolved yet."""
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else recipes_folder() / f"{recipe}.yaml"
    if not path.is_file():
        if path.suffix and recipe.endswith(path.suffix):
            raise UserError(f"recipe file {recipe} does not exist")
        raise UserError(f"unknown recipe {recipe!r}.{nearest(recipe, names())} Recipes: {', '.join(names())}")
    search = f"hydra.searchpath=[file://{recipes_folder()}]"
    with _explained(), initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
        of_sets = [word for word in overrides if word.startswith(SETS)]
        others = [_site(_opened(word)) for word in overrides if word not in of_sets]
        chosen = compose(path.stem, [search, *others, f"recipe={path.stem}"])
        _add_sets(chosen, of_sets)
    return chosen


def with_values(tree: DictConfig, values: Mapping[str, Any]) -> Config:
    """The configuration of a composed tree in which some keys have other values. Many are had so from one tree in a
    tenth of the time that composing each takes."""
    with _explained():
        own = copy.deepcopy(tree)
        for key, value in values.items():
            OmegaConf.update(own, key, value)
        return typed(own)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """While it lasts, what is wrong with a configuration is a ``UserError`` of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(_explain(error)) from None


def of_words(words: list[str]) -> Config:
    """The configuration that the words of a command line describe: ``recipe=...`` and ``key=value``."""
    _check_form(words)
    given = [word.partition("=")[2] for word in words if word.startswith("recipe=")]
    return load(given[-1] if given else "blank", [word for word in words if not word.startswith("recipe=")])


def read(path: Path) -> Config:
    """A configuration that was saved resolved (a run's config.yaml)."""
    try:
        return typed(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{path}: {_explain(error)}") from None


def parse(schema: type[T], words: list[str]) -> T:
    """The settings of a command that is no stage: ``schema`` (a dataclass) with ``key=value`` words (Hydra's grammar).

    Raises ``UserError`` as ``load`` does.
    """
    _check_form(words)
    config = OmegaConf.structured(schema)
    try:
        for word in OverridesParser.create().parse_overrides(words):
            OmegaConf.update(config, word.key_or_group, word.value())
        return cast(T, OmegaConf.to_object(config))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, schema)) from None


def _check_form(words: list[str]) -> None:
    for word in words:
        if "=" not in word or word.startswith("-"):
            raise UserError(f"{word!r} is not of the form key=value")


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
    """Some sections (or dotted keys) of a configuration as plain values, for manifests.

    ``a.*.b`` names the key ``b`` of each entry of the dictionary ``a``.
    """
    whole = asdict(config)
    return {key: value for name in names for key, value in _each(whole, name)}


def _each(whole: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    table, star, key = name.partition(".*.")
    found: Any = whole
    for part in table.split("."):
        found = found[part]
    if star:
        yield from ((f"{table}.{entry}.{key}", found[entry][key]) for entry in sorted(found))
    else:
        yield name, found


def _opened(override: str) -> str:
    """An override that may name a new key of a dictionary (``evaluate.texts.tr=...``) in Hydra's grammar for it."""
    tables = (
        *("evaluate.texts.", "evaluate.tasks.", "evaluate.shots.", "tokenizer.parallel."),
        *("site.environment.", "model.config."),
    )
    return f"++{override}" if override.startswith(tables) else override


def _site(override: str) -> str:
    """``site=NAME`` or ``site=FILE.yaml`` as a choice that Hydra finds: the profile enters its store."""
    key, _, given = override.partition("=")
    if key != SITE:
        return override
    folder = _shipped("slurm")
    path = Path(given) if given.endswith((".yaml", ".yml")) else folder / f"{given}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise UserError(f"unknown site {given!r}.{nearest(given, known)} Sites: {', '.join(known)}, or FILE.yaml")
    ConfigStore.instance().store(group=SITE, name="chosen", node=OmegaConf.load(path))
    return f"{SITE}=chosen"


def _add_sets(config: DictConfig, words: list[str]) -> None:
    """Overrides of ``data.sets.NAME``; Hydra cannot make a new entry of a dictionary of dataclasses."""
    for word in OverridesParser.create().parse_overrides(words):
        name = word.key_or_group.removeprefix(SETS).partition(".")[0]
        with open_dict(config.data.sets):
            config.data.sets.setdefault(name, OmegaConf.structured(SetConfig))
        OmegaConf.update(config, word.key_or_group, word.value())


def _explain(error: Exception, schema: type = Config) -> str:
    """One line for a composition error, with the nearest known key where a key was misspelt."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = cause.missing_cfg_file.rpartition("/")
            known = names(group)
            return f"unknown {group or 'recipe'} {name!r}.{nearest(name, known)} Known: {', '.join(known)}"
        if isinstance(cause, OverrideParseException):
            word = str(cause.override).removeprefix("++")
            return (
                f"{word!r} cannot be read: close lists and tables, write $HOME for ~, and put a value with signs like "
                f"( ) = , in quotes of its own: '{word.partition('=')[0]}=\"...\"'"
            )
        key = getattr(cause, "full_key", None)
        if key and "not in" in str(cause):
            return _unknown(str(key), schema)
        if isinstance(cause, InterpolationToMissingValueError):
            return f"no value for {str(cause).split(': ')[-1].split()[0]}: set it in the recipe or on the command line"
    keyed = next((cause for cause in chain if getattr(cause, "full_key", None)), None)
    reason = str(keyed or chain[0]).strip().splitlines()[0]
    return f"{keyed.full_key}: {_plainer(reason, keyed)}" if keyed else reason  # type: ignore[attr-defined]


def _plainer(reason: str, error: Any) -> str:
    """What is wanted, where OmegaConf's ``reason`` speaks of its own classes."""
    if "merge DictConfig with ListConfig" in reason:  # it says so of either in the place of the other
        said = LIST if error.object_type is list else TABLE
    else:
        said = next((plain for part, plain in PLAINER.items() if part in reason), reason)
    return said.replace("{key}", error.full_key)


def _unknown(key: str, schema: type) -> str:
    """One line for a key that is not there: the whole name where its section was left out, or the nearest name."""
    known = _known_keys(schema)
    whole = [name for name in known if name.endswith(f".{key}")]
    last_parts = [name.rpartition(".")[2] for name in known]  # inside a list an error names no more
    hint = f" Did you mean {whole[0]!r}?" if whole else nearest(key, [*known, *last_parts])
    return f"unknown key {key!r}.{hint}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _known_keys(schema: type) -> list[str]:
    """All dotted keys of a schema; those of list entries without their numbers, ``NAME`` for those of dictionaries."""

    def walk(schema: Any, prefix: str) -> Iterator[str]:
        for entry in fields(schema):
            yield f"{prefix}{entry.name}"
            inner = get_args(entry.type)[-1] if get_args(entry.type) else entry.type
            if is_dataclass(inner):
                name = "NAME." if len(get_args(entry.type)) > 1 else ""
                yield from walk(inner, f"{prefix}{entry.name}.{name}")

    return list(walk(schema, ""))
