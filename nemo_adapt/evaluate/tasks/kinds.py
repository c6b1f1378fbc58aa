"""The kinds of tasks: the fields that a record of each must have, and how it is turned into a question."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import prompts
from nemo_adapt.evaluate.tasks.records import Record

BLANK = "[Y]"
SUBJECT = "[X]"


@dataclass(frozen=True)
class MultipleChoice:
    """A question with answers, of which ``choices[gold]`` is right; a space separates question and answer."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Line:
    """A prompt to be continued with a line of text, and the reference for that line."""

    query: str
    reference: str


Item = MultipleChoice | Line
Render = Callable[[Record, Any], Item]


@dataclass(frozen=True)
class Kind:
    """How the records of a task become questions."""

    render: Render
    words: Callable[[str, str], Any]
    """(Language, kind) -> the prompt words that ``render`` takes; ``UserError`` for a language without any."""
    shots: int
    """Few-shot examples before a question, as in the paper."""
    most_tokens: int = 0
    """Most tokens of a generated answer; 0: the answer is chosen."""
    complete: Callable[[Sequence[Record]], list[Record]] = list
    """Adds to each record the fields that depend on all records of the task."""
    needs: tuple[str, ...] = ("lm_eval",)
    """Required packages of the extra ``eval``."""


def xcopa(record: Record, words: Mapping[str, str]) -> MultipleChoice:
    """Choose the cause or effect of a premise, whose final punctuation is dropped.

    As in lm-evaluation-harness, except that the harness always drops the last character: in the Tamil XCOPA, which has
    no full stops, that is a letter or its vowel sign.
    """
    joint = [*words.values()][record.place("question", "cause effect")]
    choices = tuple(text[0].lower() + text[1:] for text in (record.text("choice1"), record.text("choice2")))
    premise = record.text("premise")
    stop = unicodedata.category(premise[-1]).startswith("P")
    return MultipleChoice(f"{premise[:-1] if stop else premise} {joint}", choices, record.place("label", "0 1"))


def xnli(record: Record, words: tuple[str, ...]) -> MultipleChoice:
    """Choose among three texts: both sentences joined by the word for each label, as in lm-evaluation-harness."""
    question, *answers = words
    premise, hypothesis = record.text("premise"), record.text("hypothesis")
    gold = record.place("label", "0 1 2", "entailment neutral contradiction", "entailment neutral contradictory")
    return MultipleChoice("", tuple(f"{premise}, {question} {answer}, {hypothesis}" for answer in answers), gold)


def xstorycloze(record: Record, words: None) -> MultipleChoice:
    """Choose between two endings of a story of four sentences."""
    story = " ".join(record.text(f"input_sentence_{number}") for number in range(1, 5))
    endings = (record.text("sentence_quiz1"), record.text("sentence_quiz2"))
    return MultipleChoice(story, endings, record.place("answer_right_ending", "1 2"))


def sentiment(record: Record, words: tuple[str, ...]) -> MultipleChoice:
    """Choose the word for a text's sentiment, after the text and a heading.

    If any record of the task is ``neutral``, labels have to be words, as the meaning of numbers is then ambiguous.
    """
    heading, negative, neutral, positive = words
    query = f"{record.text('text')}\n{heading}:"
    if "neutral" in record.values:
        return MultipleChoice(query, (negative, positive, neutral), record.place("label", "negative positive neutral"))
    return MultipleChoice(query, (negative, positive), record.place("label", "negative positive", "0 1"))


def mlama(record: Record, words: None) -> MultipleChoice:
    """Choose what fills the blank of a fact; each candidate is followed by the rest of the sentence."""
    template = record.text("template")
    for mark in (SUBJECT, BLANK):
        if mark not in template:
            raise record.error(f"has no {mark} in field 'template'")
    before, _, after = template.replace(SUBJECT, record.text("sub_label")).partition(BLANK)
    query, _, beginning = before.rpartition(" ")
    candidates = record.texts("candidates")
    if record.text("obj_label") not in candidates:
        raise record.error("has an 'obj_label' that is not among its 'candidates'")
    choices = tuple(f"{beginning}{candidate}{after}".strip() for candidate in candidates)
    return MultipleChoice(query, choices, candidates.index(record.text("obj_label")))


def headline(record: Record, words: tuple[str, str]) -> Line:
    """Write the headline of a summary."""
    summary, title = words
    text = " ".join(record.text("summary").split())
    return Line(f"{summary}: {text}\n{title}:", " ".join(record.text("title").split()))


def translation(record: Record, words: tuple[tuple[str, str], tuple[str, str]]) -> Line:
    """Translate a sentence; it and its translation each follow the name of their language."""
    (source, source_name), (target, target_name) = words
    given, wanted = (" ".join(record.text(language).split()) for language in (source, target))  # on one line each
    return Line(f"{source_name}: {given}\n{target_name}:", wanted)


def pair(language: str, kind: str) -> tuple[str, str]:
    """Split ``en-tr`` into its two languages; ``UserError`` if it is not such a pair."""
    source, dash, target = language.partition("-")
    if not (source and dash and target):
        raise UserError(f"evaluate.tasks.{kind}: {language!r} is not a pair of languages like en-tr")
    return source, target


def with_candidates(records: Sequence[Record]) -> list[Record]:
    """Give records of facts that name no candidates the objects of all records of their relation.

    A relation is identified by its template and, as two may share one (place of birth, in Google-RE and T-REx), by the
    field ``relation`` or ``predicate_id``.
    """
    objects: dict[Any, dict[Any, None]] = {}
    for record in records:
        objects.setdefault(_relation(record), {})[record.text("obj_label")] = None
    return [
        Record({"candidates": [*objects[_relation(record)]]} | dict(record.values), record.path, record.at)
        for record in records
    ]


def with_neutral(records: Sequence[Record]) -> list[Record]:
    """Mark all records of sentiment with ``neutral`` if any of them has that label."""
    known = {"neutral": True} if any(_is_neutral(record) for record in records) else {}
    return [
        Record({key: of for key, of in record.values.items() if key != "neutral"} | known, record.path, record.at)
        for record in records
    ]


def _is_neutral(record: Record) -> bool:
    return str(record.values.get("label")).strip().lower() == "neutral"


def _relation(record: Record) -> tuple[Any, ...]:
    return record.mark("relation"), record.mark("predicate_id"), record.text("template")


def _table(table: Mapping[str, Any]) -> Callable[[str, str], Any]:
    return lambda language, kind: prompts.words(table, language, kind)


def _none(language: str, kind: str) -> None:
    """Words of a task whose examples contain the whole prompt."""


def _names(language: str, kind: str) -> tuple[tuple[str, str], ...]:
    return tuple((each, prompts.words(prompts.LANGUAGE, each, kind)) for each in pair(language, kind))


KINDS = {
    "headline": Kind(headline, _table(prompts.HEADLINE), shots=1, most_tokens=50, needs=("sacrebleu", "rouge_score")),
    "mlama": Kind(mlama, _none, shots=0, complete=with_candidates),
    "sentiment": Kind(sentiment, _table(prompts.SENTIMENT), shots=5, complete=with_neutral),
    "translation": Kind(translation, _names, shots=5, most_tokens=200, needs=("sacrebleu",)),
    "xcopa": Kind(xcopa, _table(prompts.XCOPA), shots=5),
    "xnli": Kind(xnli, _table(prompts.XNLI), shots=5),
    "xstorycloze": Kind(xstorycloze, _none, shots=5),
}
"""Kind of task by name; shots and lengths are the paper's (arXiv 2406.14670)."""
