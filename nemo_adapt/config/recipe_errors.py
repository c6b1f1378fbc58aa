"""One-line explanations of configuration errors, in place of messages that name Hydra's and OmegaConf's classes."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from nemo_adapt.config import Config, PhaseConfig
from nemo_adapt.config.recipe_files import names
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

SINGLE = (str, int, float, bool)
"""Types of an entry that is one value."""
LIST, TABLE = "expected a list: {key}=[...]", "expected names with values: {key}.NAME=..."
PLAINER = {
    "is not a ListConfig": LIST,
    "Cannot assign": TABLE,
    "is not a subclass of": TABLE,
    "type hint 'typing.Dict": TABLE,
    "type hint 'typing.List": LIST,
    "(bool) is incompatible": 'YAML reads no, yes, on and off as false and true: put this name in quotes, as "no"',
    "is not Optional": "it cannot be null: leave {key} out for its default",
    "value 'None' for": "it cannot be null: leave {key} out for its default",
}
"""Part of a message of OmegaConf -> our message."""
NO_ENTRY = ("dict is not a subclass of", "list index out of range")
"""Parts of OmegaConf's messages on an entry that a list does not have."""
NAMES_IN_TABLE = re.compile(r"[{,]\s*([^\s:,{}\[\]]+)\s*:")
"""The names in a table such as ``{en: a.txt, tr: b.txt}``."""


NO_INTEGER = re.compile(r"^Value '([^']*)' of type '(?:str|float)' could not be converted to Integer")
"""Matches OmegaConf's error for a number that is not written as a whole one."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Context: raise configuration errors as a ``UserError`` of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error)) from None
    except ValueError as error:
        if "invalid literal for int" in str(error):  # OmegaConf's error for a name in a list
            name = str(error).partition(": ")[2]
            raise UserError(f"{name}: entries of a list are numbered from 0, as in train.phases.0.steps=5") from None
        if not any(part in str(error) for part in ("defaults list", "in defaults")):
            raise
        said = str(error).strip().partition("\n")[0]
        raise UserError(f"{said}: defaults is a list of names, as defaults: [blank, _self_]") from None
    except TypeError as error:
        if "is not an int" not in str(error):
            raise
        raise UserError(f"{error}: entries of a list are numbered from 0, as in train.phases.0.steps=5") from None
    except RecursionError:
        raise UserError("a recipe includes itself: check its defaults, and theirs") from None


def explain(error: Exception, schema: type = Config) -> str:
    """Return one line for a composition error, with the nearest known key where a key was misspelt."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            group, _, name = cause.missing_cfg_file.rpartition("/")
            known = names(group)
            return f"unknown {group or 'recipe'} {name!r}.{nearest(name, known)} Known: {', '.join(known)}"
        if isinstance(cause, OverrideParseException):
            return unreadable(str(cause.override))
        key = getattr(cause, "full_key", None)
        if key and "not in" in str(cause):
            return unknown(str(key), schema)
        if isinstance(cause, InterpolationToMissingValueError):
            return f"no value for {str(cause).split(': ')[-1].split()[0]}: set it in the recipe or on the command line"
        if key and any(part in str(cause) for part in NO_ENTRY):
            name, entries = str(key).partition("[")[0], getattr(cause, "parent_node", None)
            return (
                f"{key}: {name} has {len(entries or ())} entries, numbered from 0: give the list itself, {name}=[...]"
            )
    keyed = next((cause for cause in chain if getattr(cause, "full_key", None)), None)
    reason = str(keyed or chain[-1]).strip().splitlines()[0]
    return f"{keyed.full_key}: {_plainer(reason, keyed)}" if keyed else reason  # type: ignore[attr-defined]


def _plainer(reason: str, error: Any) -> str:
    """Return what is expected, where OmegaConf's ``reason`` names its own classes; else ``reason``."""
    if "merge DictConfig with ListConfig" in reason:  # the same message for either in place of the other
        said = LIST if error.object_type is list else TABLE
    else:
        said = next((plain for part, plain in PLAINER.items() if part in reason), reason)
    return said.replace("{key}", error.full_key) + _written_out(reason)


def _written_out(reason: str) -> str:
    """Return how to write a whole number that was given with an exponent or a point (``1e9``), else an empty string."""
    given = NO_INTEGER.search(reason)
    try:
        number = float(given[1]) if given else 0.5
    except ValueError:
        return ""
    return f"; write {number:.0f}" if number.is_integer() else ""


def unreadable(word: str) -> str:
    """Return one line for an override that Hydra's grammar cannot read as one value."""
    word = word.removeprefix("++")
    name, _, value = word.partition("=")
    odd = next((each for each in (*name.split("."), *NAMES_IN_TABLE.findall(value)) if not each.isascii()), "")
    if odd:
        return (
            f"{word!r} cannot be read: the command line takes names in ASCII letters: choose another name than "
            f"{odd!r}, or give it in a recipe file"
        )
    example = {"[": f'{name}=["..."]', "{": f'{name}={{NAME: "..."}}'}.get(value[:1], f'{name}="..."')
    return (
        f"{word!r} cannot be read: close lists and tables, write $HOME for ~, and put a value with signs like "
        f"( ) = , in quotes of its own: '{example}'"
    )


def unknown(key: str, schema: type) -> str:
    """Return one line for an unknown key: with the full name where its section was left out, or the nearest name."""
    known = _known_keys(schema)
    if inside := re.fullmatch(r"(.+)\[\d+\]\.(\w+)", key):
        fields_of_entry = [name.rpartition(".")[2] for name in known if name.startswith(f"{inside[1]}.")]
        return f"unknown key {key!r}.{nearest(inside[2], fields_of_entry)}"
    whole = [name for name in known if name.endswith(f".{key}")]
    last_parts = [name.rpartition(".")[2] for name in known]  # inside a list, an error names only the last part
    hint = f" Did you mean {whole[0]!r}?" if whole else nearest(key, [*known, *last_parts])
    return f"unknown key {key!r}.{hint}"


def check_kinds(given: Mapping[str, Any], schema: Any = Config, prefix: str = "") -> None:
    """Raise ``UserError`` for what a recipe has in place of a list, of a table of names, or of a section: OmegaConf
    names no key."""
    for entry in fields(schema):
        value, key, kind = given.get(entry.name), f"{prefix}{entry.name}", get_origin(entry.type) or entry.type
        if value is None or _is_reference(value):
            continue
        if is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise UserError(f"{key}: expected keys and values below it, not {value}")
            check_kinds(value, kind, f"{key}.")
        elif (kind is list and isinstance(value, Mapping)) or (kind is dict and isinstance(value, list)):
            raise UserError(f"{key}: {LIST if kind is list else TABLE}".replace("{key}", key))
        elif kind is dict and is_dataclass(inner := get_args(entry.type)[-1]):
            for name, each in value.items():
                if _is_reference(each):
                    continue
                if not isinstance(each, Mapping):
                    raise UserError(f"{key}.{name}: expected keys and values below it, not {each}")
                check_kinds(each, inner, f"{key}.{name}.")


def _is_reference(value: Any) -> bool:
    """Whether a recipe has another key's value here."""
    return str(value).startswith("${")


def check_entries(settings: Any, prefix: str = "") -> None:
    """Raise ``UserError`` for a list or a table as an entry of a list or of a table of single values: OmegaConf lets it
    pass."""
    for entry in fields(settings):
        value, key = getattr(settings, entry.name), f"{prefix}{entry.name}"
        if is_dataclass(value):
            check_entries(value, f"{key}.")
        elif isinstance(value, list | dict) and get_args(entry.type):
            kind = get_args(entry.type)[-1]
            for name, each in value.items() if isinstance(value, dict) else enumerate(value):
                if is_dataclass(each):
                    check_entries(each, f"{key}.{name}.")
                elif kind in SINGLE and isinstance(each, list | dict):
                    raise UserError(f"{key}.{name}: expected one value, not {each}")


def check_phases(phases: Any) -> None:
    """Raise ``UserError`` for an unknown key or a wrong value of a phase, with its place: OmegaConf names only the last
    part."""
    for number, phase in enumerate(phases if isinstance(phases, list) else ()):
        if not isinstance(phase, dict):
            continue
        for name in phase:
            if name not in {entry.name for entry in fields(PhaseConfig)}:
                raise UserError(unknown(f"train.phases[{number}].{name}", Config))
        try:
            OmegaConf.merge(OmegaConf.structured(PhaseConfig), phase)
        except OmegaConfBaseException as error:
            raise UserError(f"train.phases[{number}].{explain(error)}") from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _known_keys(schema: type) -> list[str]:
    """Return all dotted keys of a schema: list entries without numbers, ``NAME`` for names in dictionaries."""

    def walk(schema: Any, prefix: str) -> Iterator[str]:
        for entry in fields(schema):
            yield f"{prefix}{entry.name}"
            inner = get_args(entry.type)[-1] if get_args(entry.type) else entry.type
            if is_dataclass(inner):
                name = "NAME." if len(get_args(entry.type)) > 1 else ""
                yield from walk(inner, f"{prefix}{entry.name}.{name}")

    return list(walk(schema, ""))
