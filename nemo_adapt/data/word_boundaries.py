"""Which tokenizers can encode a text word by word, with a cache of words.

If no token can cross a single space between two visible characters, the ids of a text are those of its words, and each
distinct word has to be encoded only once. This module proves that from the parts of ``tokenizer.json``; where it
cannot, texts are not split.
"""

import re
from typing import Any

from nemo_adapt.hf_tokenizer.byte_level import BYTE_LEVEL_SPACE, SPACE
from nemo_adapt.hf_tokenizer.regexes import KEPT

SPACE_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
CROSSES = re.compile(f"[^{SPACE}]{SPACE}")


def space_of(content: dict[str, Any]) -> str:
    """Return the space symbol that words begin with, given the content of a ``tokenizer.json``; empty if it is not
    certain that the ids of a text are those of its words.

    It is certain for BPE with a known split regex as pre-tokenizer, or without one and with no token that has a space
    after another character. Normalizers may only prepend a space, replace spaces by ``▁``, or apply NFC (no
    character composes with a space). Added tokens are matched before all of that: they must be special, or matched in
    the text before normalization (``added_tokens``).
    """
    model, normalizers = content["model"], _parts(content["normalizer"], "normalizers")
    marked = SPACE_TO_MARK in normalizers or _is_metaspace(content["pre_tokenizer"])
    certain = (
        model["type"] == "BPE"
        and not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and all(_harmless(part) for part in normalizers)
        and (_never_crosses(content, model) if marked else _splits(content["pre_tokenizer"]))
        and not any(token["normalized"] and not token["special"] for token in content["added_tokens"])
    )
    return (SPACE if marked else BYTE_LEVEL_SPACE) if certain else ""


def space_first(content: dict[str, Any]) -> bool:
    """Return whether the tokenizer puts a space before a text that does not begin with one."""
    prepends = any(part["type"] == "Prepend" for part in _parts(content["normalizer"], "normalizers"))
    parts = _parts(content["pre_tokenizer"], "pretokenizers")
    return prepends or any(
        part.get("add_prefix_space") or (_is_metaspace(part) and part["prepend_scheme"] in ("always", "first"))
        for part in parts
    )


def added_tokens(content: dict[str, Any]) -> list[str]:
    """Return the added tokens that are not special: they match anywhere in a text."""
    return [token["content"] for token in content["added_tokens"] if not token["special"]]


def _parts(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """Return a normalizer or pre-tokenizer (``None``, a single one, or a possibly nested sequence) as a flat list.

    ``name`` is the key of a sequence's items.
    """
    if part is None:
        return []
    return [inner for each in part[name] for inner in _parts(each, name)] if part["type"] == "Sequence" else [part]


def _harmless(normalizer: dict[str, Any]) -> bool:
    prepends = normalizer["type"] == "Prepend" and normalizer["prepend"] in (SPACE, " ")
    return prepends or normalizer["type"] == "NFC" or normalizer == SPACE_TO_MARK


def _is_metaspace(pre_tokenizer: dict[str, Any] | None) -> bool:
    found = pre_tokenizer or {}
    return found.get("type") == "Metaspace" and found["replacement"] == SPACE


def _splits(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Return whether it is byte-level with a split regex that is known to start a new word at every single space."""
    parts = _parts(pre_tokenizer, "pretokenizers")
    if not parts or parts[-1]["type"] != "ByteLevel":
        return False
    if len(parts) == 1:
        return bool(parts[0]["use_regex"])
    split, last = parts[0], parts[-1]
    known = split["type"] == "Split" and split["pattern"].get("Regex") in KEPT and split["behavior"] == "Isolated"
    return len(parts) == 2 and known and not split["invert"] and not last["use_regex"] and not last["add_prefix_space"]


def _never_crosses(content: dict[str, Any], model: dict[str, Any]) -> bool:
    """Return whether no merge can cross the space before a word, although no pre-tokenizer splits the text."""
    no_space_left = SPACE_TO_MARK in _parts(content["normalizer"], "normalizers")
    plain = all(
        _is_metaspace(part)
        # Gemma splits at " ", of which its normalizer has left none.
        or (no_space_left and part["type"] == "Split" and part["pattern"] == {"String": " "})
        for part in _parts(content["pre_tokenizer"], "pretokenizers")
    )
    whole = model.get("ignore_merges")  # a text that equals a token would then become it without merges
    return plain and not whole and SPACE in model["vocab"] and not any(map(CROSSES.search, model["vocab"]))
