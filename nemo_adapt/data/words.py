"""Which tokenizers may be given a text word by word.

Real text says the same words again and again. Where a tokenizer never joins what a single space between two visible
characters separates, a word needs to be encoded once, and its ids can be looked up from then on. That is read off the
tokenizer's own parts here; where they do not prove it, texts are encoded whole.
"""

import re
from typing import Any

from nemo_adapt.byte_level import BYTE_LEVEL_SPACE
from nemo_adapt.hf_tokenizer import SPACE
from nemo_adapt.hf_tokenizer.regexes import KEPT

SPACE_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
CROSSES = re.compile(f"[^{SPACE}]{SPACE}")


def space_of(content: dict[str, Any]) -> str:
    """The sign for a space with which words begin, for the tokenizer of a ``tokenizer.json``; empty where it is not
    certain that the ids of a text are those of its words.

    They are for BPE whose pre-tokenizer is a known split regex, or which has none and no token with a space behind a
    visible character. A normalizer may only put a space in front, spell spaces as ``▁`` and compose (NFC: no character
    composes with a space). Added tokens are found in a text before all this; they must be special, or looked for in
    the text as it was written (``found_before``).
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
    """Whether the tokenizer itself puts a space before a text's first word, if none is there."""
    prepends = any(part["type"] == "Prepend" for part in _parts(content["normalizer"], "normalizers"))
    parts = _parts(content["pre_tokenizer"], "pretokenizers")
    return prepends or any(
        part.get("add_prefix_space") or (_is_metaspace(part) and part["prepend_scheme"] in ("always", "first"))
        for part in parts
    )


def found_before(content: dict[str, Any]) -> list[str]:
    """Added tokens that are not special: they are tokens wherever a text holds them."""
    return [token["content"] for token in content["added_tokens"] if not token["special"]]


def _parts(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """A part of a ``tokenizer.json`` that may be none or a sequence, as a list."""
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
    """Whether it is byte-level with a split regex that is known to begin a word at every single space."""
    parts = _parts(pre_tokenizer, "pretokenizers")
    if not parts or parts[-1]["type"] != "ByteLevel":
        return False
    if len(parts) == 1:
        return bool(parts[0]["use_regex"])
    split, last = parts[0], parts[-1]
    known = split["type"] == "Split" and split["pattern"].get("Regex") in KEPT and split["behavior"] == "Isolated"
    return len(parts) == 2 and known and not split["invert"] and not last["use_regex"] and not last["add_prefix_space"]


def _never_crosses(content: dict[str, Any], model: dict[str, Any]) -> bool:
    """Whether no merge can reach over the space before a word, in a text that is not split before it is merged."""
    no_space_left = SPACE_TO_MARK in _parts(content["normalizer"], "normalizers")
    plain = all(
        _is_metaspace(part)
        or (no_space_left and part["type"] == "Split" and part["pattern"] == {"String": " "})  # Gemma's cuts nothing
        for part in _parts(content["pre_tokenizer"], "pretokenizers")
    )
    whole = model.get("ignore_merges")  # then a text that is a token as a whole is never merged
    return plain and not whole and SPACE in model["vocab"] and not any(map(CROSSES.search, model["vocab"]))
