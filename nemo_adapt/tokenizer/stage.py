"""The stage: from a base tokenizer and text to the extended tokenizer, its token map and a fertility table."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from nemo_adapt.config import Config
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.files import write_json
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.tokenizer import extend, given, marks, settings
from nemo_adapt.tokenizer.base import Base, read
from nemo_adapt.tokenizer.chosen_tokens import PARALLEL, ChosenTokens, choose_tokens
from nemo_adapt.tokenizer.clock import Clock
from nemo_adapt.tokenizer.encode import encode_words
from nemo_adapt.tokenizer.pieces import token_bytes
from nemo_adapt.tokenizer.select import Selection
from nemo_adapt.tokens import documents, fertility
from nemo_adapt.tokens.token_map import NewToken, TokenMap
from nemo_adapt.tokens.vocab import check_fit

CHECKED_LINES = 2000
"""Lines of the training text on which the fast tokenizer is compared with sentencepiece."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the extended tokenizer's folder into ``out``, with token_map.json, fertility.json and learn.json.

    ``inputs``: ``base`` and perhaps ``given`` (one folder or file each), ``text``, ``guard`` (files), and
    ``parallel.LANG`` (one file each). ``tokenizer.new_tokens=0`` saves the base with an empty map. With ``given``
    nothing is learned: that tokenizer is saved, with its map. Raises ``UserError`` for a base that cannot be read or
    extended or is not the model's, for text that is missing or empty, for a ``given`` one that does not extend the
    base, and for settings that contradict each other.
    """
    settings.check(config)
    clock, text_field = Clock(), config.data.text_field
    with clock.time("read"):
        original = read(inputs["base"][0])
    beyond = _beyond_rows(config, original)
    if taken := given.take(inputs["given"][0], original) if "given" in inputs else None:
        choice = ChosenTokens(original, Selection(report={"asked": len(taken[1]), "added": len(taken[1])}))
    else:
        choice = choose_tokens(config, inputs, original, out, clock)
    base, chosen = choice.base, choice.selection
    saved, new = taken or (base, _new_tokens(base, original, chosen))
    with clock.time("save"):
        tokenizer = extend.save(saved, chosen.tokens, out)
        TokenMap(base.size - len(beyond), [*beyond, *new]).save(out)
    with clock.time("measure"):
        both = {"base": original.fast, "extended": tokenizer}
        rows = fertility.table(both, of_group(inputs, PARALLEL), config.tokenizer.reference, text_field)
        write_json(out / "fertility.json", rows)
        lines = text.documents(inputs.get("text", []), text_field)
        differing = _differing(tokenizer, out, lines) if saved.proto is not None else 0
    _say_unknown(base, new)
    if differing:
        say(f"{differing:,} of the first {CHECKED_LINES:,} lines of text get other ids than sentencepiece gives them")
    report = {
        "method": "given" if taken else config.tokenizer.method,
        **chosen.report,
        "keep_marks": choice.marks,
        "lines_unlike_sentencepiece": differing,
        "seconds": clock.seconds,
    }
    write_json(out / "learn.json", report)


def _beyond_rows(config: Config, base: Base) -> list[NewToken]:
    """Return the special tokens of the base for which the model has no row (Gemma 3 1B's for images), as new ones.

    Empty where ``model.path`` is no model folder. ``UserError`` if the base tokenizer cannot be that of the model: the
    tables are only resized after the data and the conversion, which can take hours.
    """
    folder = Path(config.model.path)
    rows = read_config(folder).get("vocab_size") if config.model.path and (folder / "config.json").is_file() else None
    if not isinstance(rows, int):
        return []
    special = {token["id"]: token["content"] for token in base.content["added_tokens"] if token["special"]}
    names = [special.get(number) for number in range(rows, base.size)]
    beyond = [name for name in names if name is not None]
    if len(beyond) < len(names) or (config.tokenizer.new_tokens and not beyond):  # else all rows are kept
        check_fit(base.size, rows)
    if beyond:
        say(f"the model has no row for {', '.join(beyond)} of its tokenizer: new rows")
    spelled = documents.encode(base.fast, beyond)
    sizes = [len(name.encode()) for name in beyond]
    return [NewToken(rows + i, name, name, spelled[i], sizes[i], 0) for i, name in enumerate(beyond)]


def _new_tokens(base: Base, original: Base, chosen: Selection) -> list[NewToken]:
    """Return the rows of the token map.

    Each token is spelled by the base's bare model, so that no space is prepended. If marks are now kept with their
    letters, the original split regex is applied first, because the base still splits there.
    """
    spellings: Iterable[list[int]] = encode_words(base.model, chosen.tokens).lists()
    if base is not original:
        spellings = marks.spellings(original, chosen.tokens)
    rows = []
    for i, (token, source_ids) in enumerate(zip(chosen.tokens, spellings, strict=True), start=base.size):
        raw = token_bytes(token, base.byte_level)
        rows.append(NewToken(i, token, raw.decode(errors="replace"), list(source_ids), len(raw), chosen.fires[token]))
    return rows


def _say_unknown(base: Base, new: Sequence[NewToken]) -> None:
    """Print a line where the base spells new tokens with its unknown token, as it has no bytes to fall back on."""
    unknown = base.vocab.get(base.unknown or "")
    if count := sum(unknown in token.source_ids for token in new):
        say(
            f"{count:,} of {len(new):,} new tokens have characters that the base does not know, and spells with "
            f"{base.unknown}: with subword_mean those that it spells alike get the same row; multivariate_normal and "
            "focus give each its own"
        )


def _differing(tokenizer: Any, out: Path, lines: Iterator[str]) -> int:
    """Return how many lines of text have other ids in the fast tokenizer than in sentencepiece."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    checked = list(itertools.islice(lines, CHECKED_LINES))
    encoded = documents.encode(tokenizer, checked)
    return sum(ids != model.encode(line) for ids, line in zip(encoded, checked, strict=True))
