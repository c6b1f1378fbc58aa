"""Files that a recipe is composed from, where they are chosen on the command line (``model=NAME``): their values then
replace the recipe's own."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_adapt.config import ClusterConfig, Config, ModelConfig, SiteConfig
from nemo_adapt.config.field_types import type_below
from nemo_adapt.config.overrides import literal, parsed
from nemo_adapt.config.recipe_files import GROUPS, load_file, recipes_folder

SITE = "site"
"""The config group of site profiles, which are in ``slurm/`` or in a file of the user's, and so in Hydra's store."""
SECTIONS = {"model": ModelConfig, "cluster": ClusterConfig, SITE: SiteConfig}
"""Groups whose file is the whole section of their name; files of the others have keys of several sections."""
PLACE = "data.folder"
"""Where a recipe's files lie, which no choice of a file moves."""


def choices(words: list[str]) -> list[str]:
    """Return words with the choices of groups as Hydra's grammar wants them: the last of each group, any name (also a
    number) as a text, and ``cluster=null``, which takes back the recipe's choice, as ``~cluster``."""
    last = {_group(word): word for word in words}
    kept = [word for word in words if not _group(word) or last[_group(word)] is word]
    return [_choice(word) if _group(word) else word for word in kept]


def _group(word: str) -> str:
    """Return the group of which a word chooses a file; empty: it does not choose one."""
    key, _, value = word.partition("=")
    return key if key in GROUPS and not value.lstrip().startswith("{") else ""


def _choice(word: str) -> str:
    """Return one choice as Hydra's grammar wants it."""
    group, _, text = word.partition("=")
    value = parsed([word])[0].value()
    if value is None:
        return f"~{group}"
    return word if isinstance(value, (str, list)) else f"{group}={literal(text.strip())}"


def prefer_chosen(config: DictConfig, words: list[str], folder: Path) -> None:
    """Let the files that ``words`` choose win over the recipe's own keys (by Hydra's order the recipe would win, value
    by value), and the other words over both. ``folder``: the recipe's, which may have such files, too."""
    given = parsed(words)
    picks = [word for word in given if word.key_or_group in (*GROUPS, SITE) and not isinstance(word.value(), dict)]
    touched: list[str] = []
    for group, value in ((word.key_or_group, word.value()) for word in picks):
        files = [_load(group, str(name), folder) for name in _names(value)]
        if group in SECTIONS:
            config[group] = OmegaConf.merge(OmegaConf.structured(SECTIONS[group]), *files)
            touched.append(group)
        else:
            touched += [key for file in files for key in _put(config, file, Config)]
    for word in given:
        key = f"{word.key_or_group}."
        if word in picks or not any(key.startswith(f"{each}.") or each.startswith(key) for each in touched):
            continue
        if word.is_delete():
            table, _, name = word.key_or_group.rpartition(".")
            with open_dict(config):
                OmegaConf.select(config, table).pop(name, None)
        else:
            OmegaConf.update(config, word.key_or_group, word.value(), force_add=True)


def _names(value: Any) -> list[Any]:
    """Return the names in a choice: none, one, or a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _load(group: str, name: str, folder: Path) -> Mapping[Any, Any]:
    """Return the keys of a file of a group, unresolved."""
    if group == SITE:
        return cast(dict[Any, Any], OmegaConf.to_container(ConfigStore.instance().load(f"{SITE}/{name}.yaml").node))
    places = [place / group / f"{name}.yaml" for place in (folder, recipes_folder())]
    found = OmegaConf.to_container(load_file(next(place for place in places if place.is_file())))
    assert isinstance(found, dict)
    return found


def _put(config: DictConfig, given: Mapping[Any, Any], kind: Any, prefix: str = "") -> Iterator[str]:
    """Set the keys of ``given`` in ``config``, lists and tables whole; yield their dotted names."""
    for name, value in given.items():
        own, key = type_below(kind, name), f"{prefix}{name}"
        if is_dataclass(own) and isinstance(value, dict):
            yield from _put(config, value, own, f"{key}.")
        elif own and key != PLACE:
            OmegaConf.update(config, key, value, merge=False)
            yield key
