"""Combining marks: vowel signs and viramas that the split regexes of byte-level bases cut off from their letters.

In GPT-2, Llama-3 and Qwen a word is a run of ``\\p{L}``. The vowel signs of Hindi or Tamil are ``\\p{M}``, so a word
ends before each of them, and no token can span one. Kept marks stay with the letter before them, as do the joiners ZWNJ
and ZWJ; where no letter comes before them (emoji, keycaps), the split is unchanged.
"""

import copy
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer.regexes import GPT2, KEPT, QWEN2
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.count_words import count_lines
from nemo_adapt.tokenizer.encode import encode_words
from nemo_adapt.tokenizer.extend import extended_json
from nemo_adapt.tokenizer.pieces import token_bytes
from nemo_adapt.tokenizer.tally import Tally

JOINERS = "\u200c\u200d"
TRIED = 1000
"""New tokens learned to compare the two ways of splitting: this few show the better one as clearly as ten thousand."""

LOOKED_AT, SAMPLED = 100_000, 8_000
"""Compare on ``SAMPLED`` lines, evenly spaced among the first ``LOOKED_AT``."""
LONGEST, MOST = 10_000, 50_000_000
"""Characters of a line, which may be a whole book, that are looked at, and of all lines."""
OWN_REGEX = ("qwen2",)
"""Types of models whose tokenizer transformers 5 loads with a split regex of its own, whatever tokenizer.json says
(``Qwen2Tokenizer``; its ``MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS``): kept marks would be cut off there."""
OPTIONAL = 0.5
"""If a larger share of marked words also occurs without marks, most text is taken to be written without them."""

Propose = Callable[[Base, Tally, int], list[str]]
"""``propose(base, words, count)``: up to ``count`` new tokens."""


def choose(
    base: Base, asked: str, lines: Sequence[str], propose: Propose, model_type: str = ""
) -> tuple[Base, dict[str, Any]]:
    """Return the base that splits words as ``tokenizer.keep_marks`` asks, and a report.

    ``auto`` learns a few tokens from ``lines`` both ways, and uses the way that then encodes them in fewer tokens; for
    a ``model_type`` of ``OWN_REGEX`` marks are not kept. Raises ``UserError`` for ``true`` if the base's split regex is
    not a known one.
    """
    asked = asked.lower()
    kept = with_marks_kept(base) if base.byte_level and asked != "false" else None
    if kept is None:
        if base.byte_level and asked == "true":
            raise UserError(
                f"{base.path}: tokenizer.keep_marks=true needs the split regex of GPT-2, Llama-3 or Qwen; this "
                "tokenizer has another"
            )
        return base, {"asked": asked, "kept": False}
    better, found = (True, {}) if asked == "true" else _compare(base, kept, lines, propose, model_type)
    if better:
        _warn_of_splits(model_type)
    return kept if better else base, {"asked": asked, "kept": better, **found}


def _warn_of_splits(model_type: str) -> None:
    """Print a line for each program that splits words before kept marks, whatever tokenizer.json says."""
    say(
        "tokenizer: llama.cpp splits words before kept marks, whatever tokenizer.json says, and gives text other "
        "tokens than in training: for GGUF give tokenizer.keep_marks=false"
    )
    if model_type in OWN_REGEX:
        say(
            f"tokenizer: transformers 5 splits words of {model_type} models before marks again: load the result "
            "with PreTrainedTokenizerFast, not with AutoTokenizer, or give tokenizer.keep_marks=false"
        )


def _compare(
    split: Base, kept: Base, lines: Sequence[str], propose: Propose, model_type: str
) -> tuple[bool, dict[str, Any]]:
    """Return whether ``kept`` encodes ``lines`` in fewer tokens than ``split``, and for the report, how many."""
    split_words, kept_words = count_lines(split, lines), count_lines(kept, lines)
    if split_words.counts == kept_words.counts:
        return False, {}
    if model_type in OWN_REGEX:
        say(
            f"tokenizer: combining marks are not kept with their letters, as AutoTokenizer of transformers 5 splits "
            f"{model_type} models before them, whatever tokenizer.json says (tokenizer.keep_marks)"
        )
        return False, {}
    text, share = as_often_written(kept_words.counts)
    tokens_split = needed(split, propose(split, split_words, TRIED), text)
    tokens_kept = needed(kept, propose(kept, kept_words, TRIED), text)
    found = {"tokens_split": tokens_split, "tokens_kept": tokens_kept, "optional_share": round(share, 4)}
    return tokens_kept < tokens_split, found


def warn_of_own_regex(base: Base, model_type: str) -> None:
    """Print a line if transformers 5 would load the tokenizer of such a model otherwise than it is: with the normalizer
    and the split regex of Qwen 2 for a base that has others."""
    if model_type not in OWN_REGEX:
        return
    split, normalizer = base.content["pre_tokenizer"] or {}, base.content["normalizer"] or {}
    regexes = [part.get("pattern", {}).get("Regex") for part in split.get("pretokenizers", ())]
    if normalizer.get("type") != "NFC" or regexes[:1] not in ([QWEN2], [KEPT[QWEN2]]) or not base.byte_level:
        say(
            f"tokenizer: AutoTokenizer of transformers 5 gives {model_type} models the normalizer and the split regex "
            "of Qwen 2, which this base does not have: load the result, like the base, with PreTrainedTokenizerFast, "
            "or texts get other tokens than in training"
        )


def sample(lines: Iterable[str]) -> list[str]:
    """Return the beginnings of evenly spaced lines to compare on."""
    first, size = [], 0
    for line in itertools.islice(lines, LOOKED_AT):
        first.append(line[:LONGEST])
        size += len(first[-1])
        if size > MOST:
            break
    return first[:: -(-len(first) // SAMPLED) or 1]


def as_often_written(words: Counter[str]) -> tuple[Counter[str], float]:
    """Return words (byte-level spelling, marks kept) as plain text without optional marks, and the share of these.

    Arabic is written with and without its vowel marks, mostly without; a vocalised corpus should not decide for both. A
    marked word is optional if the text also has it without marks. Optional words count as unmarked ones, and if most
    marked words are optional, all of them do. The share is that of optional words among marked ones.
    """
    plain = {token_bytes(word, True).decode(errors="replace"): count for word, count in words.items()}
    bare = {word: "".join(character for character in word if not is_mark(character)) for word in plain}
    marked = {word: count for word, count in plain.items() if bare[word] != word}
    optional = {word for word in marked if bare[word] in plain}
    share = sum(marked[word] for word in optional) / max(sum(marked.values()), 1)
    text: Counter[str] = Counter()
    for word, count in plain.items():
        text[bare[word] if word in optional or share > OPTIONAL else word] += count
    return text, share


def spellings(original: Base, new: Sequence[str]) -> Iterator[list[int]]:
    """Yield the ids with which ``original``, with its own split regex, spells each new token."""
    split, model = original.fast.backend_tokenizer.pre_tokenizer, original.model
    for token in new:
        try:
            words = [word for word, _ in split.pre_tokenize_str(token_bytes(token, True).decode())]
        except UnicodeDecodeError:
            words = [token]  # part of a character: not split
        yield encode_words(model, words).ids.tolist()


def is_mark(character: str) -> bool:
    """Return whether a character is a combining mark or a joiner."""
    return character in JOINERS or unicodedata.category(character)[0] == "M"


def needed(base: Base, new: Sequence[str], words: Counter[str]) -> int:
    """Return how many tokens the words of plain text take under ``base`` extended by ``new``."""
    tokenizer = Tokenizer.from_str(json.dumps(extended_json(base, new)))
    encoded = tokenizer.encode_batch_fast(list(words), add_special_tokens=False)
    return sum(len(found.ids) * count for found, count in zip(encoded, words.values(), strict=True))


def with_marks_kept(base: Base) -> Base | None:
    """Return ``base`` with marks kept with their letters; ``None`` if its split regex is not a known one."""
    split = _rewritten(base.content["pre_tokenizer"])
    if split is None:
        return None
    fast = copy.deepcopy(base.fast)
    content = {**base.content, "pre_tokenizer": split}
    fast.backend_tokenizer.pre_tokenizer = Tokenizer.from_str(json.dumps(content)).pre_tokenizer
    return replace(base, fast=fast, content=content)


def _rewritten(pre_tokenizer: dict[str, Any]) -> dict[str, Any] | None:
    """Return a pre-tokenizer with its only known regex replaced, or ``None``."""
    if pre_tokenizer["type"] == "Sequence":
        parts = pre_tokenizer["pretokenizers"]
        changed = [_rewritten(part) for part in parts]
        if sum(part is not None for part in changed) != 1:
            return None
        return {**pre_tokenizer, "pretokenizers": [new or old for new, old in zip(changed, parts, strict=True)]}
    if pre_tokenizer["type"] == "Split" and (regex := pre_tokenizer["pattern"].get("Regex")) in KEPT:
        return {**pre_tokenizer, "pattern": {"Regex": KEPT[regex]}}
    # With add_prefix_space, ByteLevel would prepend a space to every part of a Split, not only to the text.
    if pre_tokenizer["type"] == "ByteLevel" and pre_tokenizer["use_regex"] and not pre_tokenizer["add_prefix_space"]:
        split = {"type": "Split", "pattern": {"Regex": KEPT[GPT2]}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, {**pre_tokenizer, "use_regex": False}]}
    return None
