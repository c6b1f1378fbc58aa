"""Words of the command line in Hydra's grammar. A string keeps what was typed (``2024_01``, ``true``)."""

import re
from collections.abc import Iterator
from typing import Any

from antlr4 import CommonTokenStream, InputStream  # type: ignore[import-untyped]
from antlr4.Token import CommonToken  # type: ignore[import-untyped]
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.grammar.gen.OverrideLexer import OverrideLexer
from hydra.grammar.gen.OverrideParser import OverrideParser

from nemo_adapt.config.field_types import type_of, types_within
from nemo_adapt.config.recipe_errors import unreadable
from nemo_adapt.errors import UserError

VARIABLES = "site.environment."
INTERPOLATION = re.compile(r"\$\{[^{},]*\}")
"""A reference to another key, as ``${data.folder}``, which may be in quotes."""
PERHAPS_NO_TEXT = re.compile(r"\d|true|false|inf|nan", re.IGNORECASE)
"""Is in every word that Hydra reads as a number or as true or false."""
NO_TEXT = (OverrideLexer.INT, OverrideLexer.FLOAT, OverrideLexer.BOOL)


def parsed(words: list[str]) -> list[Override]:
    """Parse words in Hydra's grammar; ``UserError`` for one with several values to try in turn, as ``lr=1,2``."""
    found = OverridesParser.create().parse_overrides(words)
    several = next((word for word in found if word.is_sweep_override()), None)
    if several:
        raise UserError(unreadable(str(several.input_line)))
    return found


def readable(words: list[str], schema: type) -> list[str]:
    """Return ``key=value`` words (keys of ``schema``), with quotes where Hydra's grammar would read another value than
    is written; ``UserError`` as ``parsed``."""
    plain = [_quoted(word) for word in words]
    for word in parsed(plain):
        if word.key_or_group == VARIABLES[:-1]:
            _check_variables(word.value())
    return [_as_written(word, schema) for word in plain]


def literal(text: str) -> str:
    """Return text in quotes, so that Hydra's grammar reads it as it is."""
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'


def _quoted(word: str) -> str:
    """Quote the value of ``key=value`` where it has letters beyond ASCII, which Hydra's grammar cannot read, or is that
    of an environment variable, of which it would make another one (``true``, ``1.10``)."""
    key, _, value = word.partition("=")
    if key.startswith(VARIABLES) and value != "null" and not any(sign in value for sign in "\"'\\"):
        return f'{key}="{value}"'
    if value.isascii() or any(sign in INTERPOLATION.sub("", value) for sign in "\"'{}"):
        return word
    parts = value[1:-1].split(",") if value.startswith("[") and value.endswith("]") else [value]
    inner = ",".join(part if part.isascii() else f'"{part.strip()}"' for part in parts)
    return f"{key}=[{inner}]" if parts != [value] else f"{key}={inner}"


def _check_variables(given: Any) -> None:
    """Raise ``UserError`` for an environment variable whose word Hydra reads as another one."""
    for name, value in given.items() if isinstance(given, dict) else ():
        if isinstance(value, (bool, float)):
            raise UserError(f"site.environment: {name} is read as {value}: write it as site.environment.{name}=WORD")


def _as_written(word: str, schema: type) -> str:
    """Return a word (which Hydra's grammar can read) with quotes around what it would read as a number or as true or
    false, where the key of ``schema`` is a text or holds texts: ``2024_01`` stays, and is not 202401. OmegaConf reads
    what else such a key holds (``train.phases``) from its text."""
    key, _, value = word.partition("=")
    types = set(types_within(type_of(schema, key))) if PERHAPS_NO_TEXT.search(value) else set()
    if str not in types or Any in types:
        return word
    tree = OverrideParser(CommonTokenStream(OverrideLexer(InputStream(word)))).override()
    for token in reversed(list(_no_texts(tree))):
        word = f'{word[: token.start]}"{token.text}"{word[token.stop + 1 :]}'
    return word


def _no_texts(tree: Any) -> Iterator[CommonToken]:
    """Yield the tokens of a parsed word that are a value, or an entry of one, and no text."""
    if isinstance(tree, OverrideParser.PrimitiveContext):
        tokens = [leaf.symbol for leaf in tree.getChildren() if leaf.symbol.type != OverrideLexer.WS]
        if len(tokens) == 1 and tokens[0].type in NO_TEXT:
            yield tokens[0]
    elif not isinstance(tree, OverrideParser.FunctionContext):
        for child in getattr(tree, "children", None) or ():
            yield from _no_texts(child)
