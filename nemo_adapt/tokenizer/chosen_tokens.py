"""Choose which tokens to add: from settings and text to a reviewed selection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from nemo_adapt.config import Config, TokenizerConfig
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.corpora.sample import drawn
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.run.inputs import Inputs, of_group
from nemo_adapt.tokenizer import marks, script, sweep
from nemo_adapt.tokenizer.base import Base
from nemo_adapt.tokenizer.clock import Clock
from nemo_adapt.tokenizer.count_words import count_words, in_parts
from nemo_adapt.tokenizer.methods import METHODS, Request
from nemo_adapt.tokenizer.pieces import Rules
from nemo_adapt.tokenizer.review import Guard
from nemo_adapt.tokenizer.select import Learned, Selection, learn_order, select
from nemo_adapt.tokenizer.tally import Tally
from nemo_adapt.tokenizer.unigram_scores import repeats

PARALLEL = "parallel"
"""The group of the stage's inputs with parallel text, by language."""


@dataclass
class ChosenTokens:
    """The selection, and the base that it extends: the original, or its variant that keeps marks with their letters."""

    base: Base
    selection: Selection = field(default_factory=lambda: Selection(report={"asked": 0, "added": 0}))
    marks: dict[str, Any] = field(default_factory=dict)


def choose_tokens(config: Config, inputs: Inputs, original: Base, out: Path, clock: Clock) -> ChosenTokens:
    """Choose ``tokenizer.new_tokens`` tokens for ``original``; write sample and sweep, if configured, into ``out``.

    Raises ``UserError`` when there is no text, or when parallel text that sets the size is not line-aligned.
    """
    settings, text_field = config.tokenizer, config.data.text_field
    if settings.new_tokens == 0:
        return ChosenTokens(original)
    method, files, parallel = METHODS.get(settings.method), inputs.get("text", []), of_group(inputs, PARALLEL)
    if not files:
        raise UserError("tokenizer.text names no file: give text of the target language, or tokenizer.new_tokens=0")
    if settings.target_disparity:
        _check_aligned(parallel, settings.reference, text_field)
    with clock.time("marks"):
        sample = marks.sample(text.documents(files, text_field))
        propose = partial(_propose, original, files)
        model_type = _model_type(config, original)
        base, marks_report = marks.choose(original, settings.keep_marks, sample, propose, model_type)
        marks.warn_of_own_regex(original, model_type)
        if marks_report.get("kept"):
            say("tokenizer: combining marks are kept with their letters (tokenizer.keep_marks)")
    with clock.time("count"):
        sampled = settings.sample_documents, settings.sample_seed, out / "sample.jsonl.zst"
        files = drawn("tokenizer", files, text_field, *sampled)
        words, pieces = count_words(base, files, text_field, "counting words", most=settings.max_words)
        words = words if base.byte_level else in_parts(words, settings.max_words)
        guarded, guard_pieces = count_words(base, inputs.get("guard", []), text_field, "counting guard words")
        of_target = [path for language, path in parallel.items() if language != settings.reference]
        script.warn(pieces, of_target, guard_pieces, text_field)
    with clock.time("learn"):
        most = max([settings.new_tokens, *settings.sweep])
        request = Request(base, files, words, partial(_allowed, _rules(base), base), most, text_field)
        learned = learn_order(method, request, Guard(guarded.counts, settings.guard_share))
    with clock.time("select"):
        size, target = _measured_sizes(settings, learned, parallel, out)
        chosen = select(learned, size)
        chosen.report |= target
    _say_shortfall(settings.method, chosen)
    return ChosenTokens(base, chosen, marks_report)


def _model_type(config: Config, base: Base) -> str:
    """Return the ``model_type`` of the model, or of the base tokenizer's folder; empty if neither has a config.json."""
    given = config.model.path
    for folder in (Path(given), base.path) if given else (base.path,):
        if (folder / "config.json").is_file():
            return str(read_config(folder).get("model_type", ""))
    return ""


def _check_aligned(parallel: Mapping[str, Path], reference: str, text_field: str) -> None:
    """Raise ``UserError`` if parallel texts differ in lines: unrelated sentences would then set the size."""
    lines = {language: sum(1 for _ in text.documents([path], text_field)) for language, path in parallel.items()}
    for language, count in lines.items():
        if count != lines[reference]:
            raise UserError(
                f"tokenizer.parallel: {language} has {count:,} lines, {reference} {lines[reference]:,}: line-aligned "
                "text is needed (empty lines do not count) for tokenizer.target_disparity"
            )


def _measured_sizes(
    settings: TokenizerConfig, learned: Learned, parallel: Mapping[str, Path], out: Path
) -> tuple[int, dict[str, Any]]:
    """Return the number of tokens to take and its part of the report; write the sweep if one is configured."""
    if not settings.sweep and not settings.target_disparity:
        return settings.new_tokens, {}
    base = learned.request.base
    text_field = learned.request.field
    words = {
        language: count_words(base, [path], text_field, f"counting {language}")[0].counts
        for language, path in parallel.items()
    }
    sizes = {language: _bytes(path, text_field) for language, path in parallel.items()}
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


def _bytes(path: Path, text_field: str) -> int:
    return sum(len(line.encode()) for line in text.documents([path], text_field))


def _rules(base: Base) -> Rules:
    """Return the rules for new tokens, with the setting of the base's SentencePiece trainer on mixed scripts."""
    if base.proto is None:
        return Rules(base.byte_level)
    return Rules(False, base.proto.trainer_spec.split_by_unicode_script)


def _allowed(rules: Rules, base: Base, token: str) -> bool:
    return token not in base.vocab and rules.allow(token) and not (base.unigram and repeats(token))


def _propose(original: Base, files: list[Path], base: Base, words: Tally, count: int) -> list[str]:
    """Return the first tokens that ``continue`` would add, without review, to compare ways of splitting."""
    title = f"trying tokenizer.keep_marks={'false' if base is original else 'true'}"
    request = Request(base, files, words, partial(_allowed, _rules(base), base), count, title=title)
    return METHODS.get("continue")(request, count)


def _say_shortfall(method: str, chosen: Selection) -> None:
    guard = chosen.report["guard"]
    asked, added = chosen.report["asked"], chosen.report["added"]
    if method == "continue" and added < asked:
        under = " under the guard" if guard["dropped"] else ""
        say(f"tokenizer: {added:,} of the {asked:,} new tokens asked for: the text supports no more{under}")
    if guard["tokens"]:
        share = guard["changed_after"] / guard["tokens"]
        say(f"tokenizer: {guard['dropped']:,} tokens dropped for the guard text; {share:.2%} of its tokens change")
