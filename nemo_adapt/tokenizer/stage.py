"""The stage: base tokenizer and text in; extended tokenizer, token map and fertility table out."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece

from nemo_adapt import fertility, text
from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.config import Config, TokenizerConfig
from nemo_adapt.errors import UserError
from nemo_adapt.progress import say
from nemo_adapt.token_map import NewToken, TokenMap
from nemo_adapt.tokenizer import extend, marks, script, sweep
from nemo_adapt.tokenizer.base import Base, encode_words, read
from nemo_adapt.tokenizer.methods import METHODS, Request
from nemo_adapt.tokenizer.pieces import Rules, token_bytes
from nemo_adapt.tokenizer.review import Guard
from nemo_adapt.tokenizer.select import Learned, Selection, learn_order, select
from nemo_adapt.tokenizer.unigram_scores import repeats
from nemo_adapt.tokenizer.words import count_words

CHECKED_LINES = 2000
"""Lines of the training text on which the fast tokenizer is compared with sentencepiece."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write the extended tokenizer's folder into ``out``, with token_map.json, fertility.json and learn.json.

    ``inputs``: ``base`` (one folder or file), ``text``, ``guard`` (files), and ``parallel.LANG`` (one file each).
    ``tokenizer.new_tokens=0`` saves the base with an empty map. Raises ``UserError`` for a base that cannot be read
    or extended and for text that is missing or empty.
    """
    settings = config.tokenizer
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        original = base = read(inputs["base"][0])
    marks_report: dict[str, Any] = {}
    chosen = Selection(report={"asked": 0, "added": 0})
    if settings.new_tokens > 0:
        method = METHODS.get(settings.method)
        files = inputs.get("text", [])
        if not files:
            raise UserError("tokenizer.text names no file: give text of the target language, or tokenizer.new_tokens=0")
        _check_sizes(settings, _parallel(inputs))
        with _timed(seconds, "marks"):
            sample = marks.sample(text.documents(files, config.data.text_field))
            base, marks_report = marks.choose(original, settings.keep_marks, sample, partial(_propose, files))
        with _timed(seconds, "count"):
            field = config.data.text_field
            files = _drawn(files, config, out)
            words, pieces = count_words(base, files, field, "counting words")
            guarded, guard_pieces = count_words(base, inputs.get("guard", []), field, "counting guard words")
            guard = Guard(guarded, settings.guard_share)
            script.warn(pieces, script.target_texts(inputs, settings.reference), guard_pieces, field)
        with _timed(seconds, "learn"):
            most = max([settings.new_tokens, *settings.sweep])
            allowed = partial(_allowed, _rules(base), base)
            learned = learn_order(method, Request(base, files, words, allowed, most, field), guard)
        with _timed(seconds, "select"):
            size, target = _measured_sizes(settings, learned, _parallel(inputs), out)
            chosen = select(learned, size)
            chosen.report |= target
        _say_shortfall(settings.method, chosen)
    with _timed(seconds, "save"):
        tokenizer = extend.save(base, chosen.tokens, out)
        TokenMap(base.size, _new_tokens(base, original, chosen)).save(out)
    with _timed(seconds, "measure"):
        field = config.data.text_field
        texts = _parallel(inputs)
        rows = fertility.table({"base": original.fast, "extended": tokenizer}, texts, settings.reference, field)
        write_json(out / "fertility.json", rows)
        lines = text.documents(inputs.get("text", []), field)
        differing = _differing(tokenizer, out, lines) if base.proto is not None else 0
    report = {
        "method": settings.method,
        **chosen.report,
        "keep_marks": marks_report,
        "lines_unlike_sentencepiece": differing,
        "seconds": seconds,
    }
    write_json(out / "learn.json", report)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[step] = round(time.monotonic() - began, 3)


def _drawn(files: list[Path], config: Config, out: Path) -> list[Path]:
    """The files to learn from: those given, or one with the documents drawn from them, which stays in the folder."""
    settings, field = config.tokenizer, config.data.text_field
    if not settings.sample_documents:
        return files
    drawn = out / "sample.jsonl.zst"
    there = text.sample(files, field, settings.sample_documents, settings.sample_seed, drawn)
    say(f"tokenizer: learning from {min(there, settings.sample_documents):,} of {there:,} documents")
    return [drawn]


def _parallel(inputs: Inputs) -> dict[str, Path]:
    """Language -> file of parallel text."""
    return {key.removeprefix("parallel."): paths[0] for key, paths in inputs.items() if key.startswith("parallel.")}


def _check_sizes(settings: TokenizerConfig, parallel: Mapping[str, Path]) -> None:
    """``UserError`` for settings of the sweep and the target that cannot be met."""
    if settings.target_disparity < 0 or any(size < 1 for size in settings.sweep):
        raise UserError("tokenizer.target_disparity must be 0 (off) or above, and sizes of tokenizer.sweep above 0")
    for key in ("target_disparity", "sweep"):
        if getattr(settings, key) and settings.method != "continue":
            raise UserError(f"tokenizer.{key} needs tokenizer.method=continue: other vocabularies do not nest")
        if getattr(settings, key) and not parallel:
            raise UserError(f"tokenizer.{key} is measured on parallel text: name it in tokenizer.parallel")
    if settings.target_disparity and (settings.reference not in parallel or len(parallel) < 2):
        raise UserError(
            f"tokenizer.target_disparity needs tokenizer.parallel to hold {settings.reference} (tokenizer.reference) "
            "and the target language"
        )


def _measured_sizes(
    settings: TokenizerConfig, learned: Learned, parallel: Mapping[str, Path], out: Path
) -> tuple[int, dict[str, Any]]:
    """The number of tokens to take, and what the report says of it; writes the sweep where one is asked for."""
    if not settings.sweep and not settings.target_disparity:
        return settings.new_tokens, {}
    base = learned.request.base
    field = learned.request.field
    words = {
        language: count_words(base, [path], field, f"counting {language}")[0] for language, path in parallel.items()
    }
    sizes = {language: _bytes(path, field) for language, path in parallel.items()}
    yard = sweep.yardstick(base, words, sizes, settings.reference)
    if settings.sweep:
        rows = sweep.table(yard, settings.sweep, learned.tokens)
        write_json(out / "sweep.json", rows)
        sweep.plot(out / "sweep.png", rows, settings.reference)
    if not settings.target_disparity:
        return settings.new_tokens, {}
    found = sweep.reach(yard, settings.reference, settings.target_disparity, settings.new_tokens, learned.tokens)
    done = "reached with" if found.met else "not reached: the limit is"
    say(
        f"tokenizer: {settings.target_disparity:g} times the tokens of {settings.reference} {done} "
        f"{found.size:,} new tokens ({found.language}: {found.disparity:.3f})"
    )
    target = {"asked": settings.target_disparity, "language": found.language, "limit": settings.new_tokens}
    return found.size, {"target": {**target, "reached": found.met, "disparity": round(found.disparity, 4)}}


def _bytes(path: Path, field: str) -> int:
    return sum(len(line.encode()) for line in text.documents([path], field))


def _rules(base: Base) -> Rules:
    """What new tokens may look like: caps, and the scripts that the base's trainer kept apart."""
    if base.proto is None:
        return Rules(base.byte_level)
    return Rules(False, base.proto.trainer_spec.split_by_unicode_script)


def _allowed(rules: Rules, base: Base, token: str) -> bool:
    return token not in base.vocab and rules.allow(token) and not (base.unigram and repeats(token))


def _propose(files: list[Path], base: Base, words: Counter[str], count: int) -> list[str]:
    """What ``continue`` would add first, unreviewed: for measuring."""
    request = Request(base, files, words, partial(_allowed, _rules(base), base), count)
    return METHODS.get("continue")(request, count)


def _say_shortfall(method: str, chosen: Selection) -> None:
    guard = chosen.report["guard"]
    asked, added = chosen.report["asked"], chosen.report["added"]
    if method == "continue" and added < asked:
        under = " under the guard" if guard["dropped"] else ""
        say(f"tokenizer: {added:,} of the {asked:,} new tokens asked for: the text supports no more{under}")
    if guard["tokens"]:
        share = guard["changed_after"] / guard["tokens"]
        say(f"tokenizer: {guard['dropped']:,} tokens dropped for the guard text; {share:.2%} of it is segmented anew")


def _new_tokens(base: Base, original: Base, chosen: Selection) -> list[NewToken]:
    """The token map's rows.

    Each token is spelled by the base's bare model, so that no space is put in front; where marks are kept now, the
    original split regex comes first, because there the base still cuts.
    """
    spellings: Iterable[list[int]] = encode_words(base.model, chosen.tokens)
    if base is not original:
        spellings = marks.spellings(original, chosen.tokens)
    rows = []
    for i, (token, source_ids) in enumerate(zip(chosen.tokens, spellings, strict=True), start=base.size):
        raw = token_bytes(token, base.byte_level)
        rows.append(NewToken(i, token, raw.decode(errors="replace"), list(source_ids), len(raw), chosen.fires[token]))
    return rows


def _differing(tokenizer: Any, out: Path, documents: Iterator[str]) -> int:
    """Lines of text whose ids in the fast tokenizer are not sentencepiece's."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    lines = list(itertools.islice(documents, CHECKED_LINES))
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return sum(encoding.ids != model.encode(line) for encoding, line in zip(encoded, lines, strict=True))
