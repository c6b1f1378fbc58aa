"""Build a typed configuration from a recipe and ``key=value`` words (Hydra over the dataclasses of ``config``)."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nemo_adapt.config import Config, SetConfig
from nemo_adapt.config.bounds import check_numbers
from nemo_adapt.config.groups import SITE, choices, prefer_chosen
from nemo_adapt.config.overrides import literal, parsed, readable
from nemo_adapt.config.recipe_errors import check_entries, check_kinds, check_phases, explain, explained
from nemo_adapt.config.recipe_files import GROUPS, load_file, load_recipe, names, recipes_folder, shipped
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

ConfigStore.instance().store(name="fields", node=Config)
DEFAULTS = ["fields", *({group: None} for group in (*GROUPS, SITE))]
ConfigStore.instance().store(name="schema", node={"defaults": DEFAULTS})
T = TypeVar("T")
SETS, PHASES = "data.sets.", "train.phases"


def load(recipe: str, overrides: list[str]) -> Config:
    """Return the configuration of ``recipe`` (a name, or a YAML file) with ``overrides`` (Hydra's grammar).

    Raises ``UserError`` for an unknown recipe, an unknown key (with the nearest one) and a value of the wrong type.
    """
    return with_values(composed(recipe, overrides), {})


def composed(recipe: str, overrides: list[str]) -> DictConfig:
    """Compose as ``load`` does, but leave interpolations unresolved."""
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else recipes_folder() / f"{recipe}.yaml"
    if not path.is_file():
        if path.suffix and recipe.endswith(path.suffix):
            raise UserError(f"recipe file {recipe} does not exist")
        raise UserError(f"unknown recipe {recipe!r}.{nearest(recipe, names())} Recipes: {', '.join(names())}")
    if path.suffix == ".yml":
        raise UserError(f"recipe file {recipe}: names of recipes end in .yaml: rename it to {path.stem}.yaml")
    content = load_recipe(path)
    check_kinds(content)
    own = content.get("train")
    check_phases(own.get("phases") if isinstance(own, dict) else None)
    search = f"hydra.searchpath=[{literal(f'file://{recipes_folder()}')}]"
    with explained(), initialize_config_dir(str(path.parent.resolve()), version_base="1.3"):
        of_sets = [word for word in overrides if word.startswith((SETS, f"{SETS[:-1]}={{"))]
        others = [_register_site(word) for word in overrides if word not in of_sets]
        others = [_allow_new_key(word) for word in choices(readable(others, Config))]
        for word in parsed(others):
            if word.key_or_group == PHASES:
                check_phases(word.value())
        chosen = compose(path.stem, [search, *others, f"recipe={literal(path.stem)}"])
        prefer_chosen(chosen, others, path.parent)
        _add_sets(chosen, readable(of_sets, Config))
    return chosen


def with_values(tree: DictConfig, values: Mapping[str, Any]) -> Config:
    """Return the configuration of a composed tree with ``values`` (dotted key -> value) replaced. For many
    configurations from one tree, this takes a tenth of the time of composing each."""
    with explained():
        own = copy.deepcopy(tree)
        for key, value in values.items():
            OmegaConf.update(own, key, value)
        return typed(own)


def of_words(words: list[str]) -> Config:
    """Return the configuration for the words of a command line: ``recipe=...`` and ``key=value``."""
    _check_form(words, of_recipe=True)
    return load(chosen_recipe(words), [word for word in words if not word.startswith("recipe=")])


def chosen_recipe(words: Sequence[str]) -> str:
    """Return the recipe that the words of a command line choose: the last of several, ``blank`` without one."""
    return [word.partition("=")[2] for word in ("recipe=blank", *words) if word.startswith("recipe=")][-1]


def read(path: Path) -> Config:
    """Read a configuration that was saved with interpolations resolved (a run's config.yaml)."""
    try:
        return typed(OmegaConf.merge(OmegaConf.structured(Config), load_file(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {explain(error)}") from None
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None


def parse(schema: type[T], words: list[str]) -> T:
    """Return the settings of a command that is not a stage: ``schema`` (a dataclass) with ``key=value`` words.

    Raises ``UserError`` as ``load`` and ``check_numbers`` do.
    """
    _check_form(words)
    config = OmegaConf.structured(schema)
    key = ""
    try:
        for word in parsed(readable(words, schema)):
            key = word.key_or_group
            OmegaConf.update(config, key, word.value())
        found = OmegaConf.to_object(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, schema)) from None
    except ValueError:  # a name in a list
        raise UserError(f"{key}: expected a list: {key.rpartition('.')[0]}=[...]") from None
    check_entries(found)
    check_numbers(found)
    return cast(T, found)


def _check_form(words: list[str], of_recipe: bool = False) -> None:
    """Raise ``UserError`` for a word that is not ``key=value``; ``of_recipe``: whether one may be ``recipe=NAME``."""
    for word in words:
        if "=" not in word or not word[0].isalpha():
            plain, hint = word.lstrip("-"), ""
            if plain != word and "=" in plain:
                hint = f": write {plain}, without dashes"
            elif of_recipe and (word.endswith((".yaml", ".yml")) or word in names()):
                hint = f": write recipe={word}"
            elif word.endswith(("}", "]", ",")):  # the end of a value with spaces, which the shell has split
                hint = ": put key={...} in quotes of the shell"
            raise UserError(f"{word!r} is not of the form key=value{hint}")
        if word.startswith(("hydra.", "hydra=")):
            raise UserError(f"unknown key {word.partition('=')[0]!r}: Hydra's own settings cannot be changed")


def require(command: str, settings: Any, names: Sequence[str]) -> None:
    """Raise ``UserError`` if a command was not given one of the folders ``names``."""
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        raise UserError(
            f"{command}: no value for {', '.join(missing)}: give {' '.join(f'{name}=FOLDER' for name in missing)}"
        )


def typed(config: Any) -> Config:
    """Convert a composed configuration to dataclasses, with interpolations resolved; ``UserError`` for a missing
    mandatory value, for a language that YAML reads as true or false, for a ``run.name`` that leaves ``run.dir``, and as
    ``check_entries`` does."""
    mandatory = (("run", "name"), ("model", "path"))
    missing = [f"{part}.{key}" for part, key in mandatory if OmegaConf.is_missing(config[part], key)]
    if missing:
        raise UserError(f"no value for {', '.join(missing)}: set it in the recipe or on the command line")
    found = cast(Config, OmegaConf.to_object(config))
    if not found.model.path:
        raise UserError("no value for model.path: set it in the recipe or on the command line")
    check_entries(found)
    for key, value in (("evaluate.target", found.evaluate.target), ("tokenizer.reference", found.tokenizer.reference)):
        if value in ("False", "True"):
            raise UserError(
                f'{key} is read as {value.lower()}: put no, yes, on or off in quotes, as {key}: "no" in YAML'
            )
    if found.train.wandb.lower() in ("false", "true"):
        raise UserError(
            f"train.wandb is read as {found.train.wandb.lower()}: name a project, or leave it out for no W&B"
        )
    name = Path(found.run.name)
    if not name.parts or name.is_absolute() or ".." in name.parts:
        raise UserError(f"run.name={found.run.name!r}: it names a folder in run.dir={found.run.dir}")
    return found


def to_yaml(config: Config) -> str:
    """Return the resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def section(config: Config, *names: str) -> dict[str, Any]:
    """Return some sections (or dotted keys) of a configuration as plain values, for manifests.

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


def _allow_new_key(override: str) -> str:
    """Prefix an override of a dictionary (``evaluate.texts.tr=...``, ``evaluate.texts={tr: ...}``) with ``++``, so that
    its keys may be new."""
    tables = (
        *("evaluate.texts", "evaluate.tasks", "evaluate.shots", "tokenizer.parallel"),
        *("site.environment", "model.config", "study.axes"),
    )
    begins = tuple(f"{table}{sign}" for table in tables for sign in (".", "={"))
    return f"++{override}" if override.startswith(begins) else override


def _register_site(override: str) -> str:
    """Register the profile of ``site=NAME`` or ``site=FILE.yaml`` (as written, or in quotes) in Hydra's store; return
    the override choosing it."""
    key, _, given = override.partition("=")
    if key != SITE:
        return override
    given = re.sub(r"""^\s*(["'])(.*)\1\s*$""", r"\2", given)
    folder = shipped("slurm")
    path = Path(given) if given.endswith((".yaml", ".yml")) else folder / f"{given}.yaml"
    if not path.is_file():
        known = sorted(each.stem for each in folder.glob("*.yaml"))
        raise UserError(f"unknown site {given!r}.{nearest(given, known)} Sites: {', '.join(known)}, or FILE.yaml")
    ConfigStore.instance().store(group=SITE, name="chosen", node=load_file(path))
    return f"{SITE}=chosen"


def _add_sets(config: DictConfig, words: list[str]) -> None:
    """Apply overrides of ``data.sets.NAME``; Hydra cannot create a new entry in a dictionary of dataclasses."""
    for word in parsed(words):
        key, value = word.key_or_group, cast(Any, word.value())
        values = {key: value} if key.startswith(SETS) else {f"{SETS}{name}": each for name, each in value.items()}
        for key, each in values.items():
            name = key.removeprefix(SETS).partition(".")[0]
            with open_dict(config.data.sets):
                config.data.sets.setdefault(name, OmegaConf.structured(SetConfig))
            OmegaConf.update(config, key, each)
