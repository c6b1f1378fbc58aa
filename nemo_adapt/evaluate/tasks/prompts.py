"""The fixed words of the prompts, by language. Tasks that need none (stories, facts) work in every language.

``XCOPA`` and ``XNLI`` use the words of lm-evaluation-harness's tasks of these names where it has the language, so that
numbers are comparable. Exception: the harness's Arabic ``xnli`` has the word for "number" where "no" is meant.
"""

from collections.abc import Mapping
from typing import TypeVar

from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

T = TypeVar("T")

XCOPA = {
    "ar": {"cause": "لأن", "effect": "لذلك"},
    "en": {"cause": "because", "effect": "therefore"},
    "hi": {"cause": "क्योंकि", "effect": "इसलिए"},
    "sw": {"cause": "kwa sababu", "effect": "kwa hiyo"},
    "ta": {"cause": "காரணமாக", "effect": "எனவே"},
    "tr": {"cause": "çünkü", "effect": "bu yüzden"},
}
"""The conjunctions between a premise and its cause or effect."""

XNLI = {
    "ar": ("صحيح?", "نعم", "لذا", "لا"),
    "en": ("right?", "Yes", "Also", "No"),
    "hi": ("सही?", "हाँ", "इसलिए", "नहीं"),
    "sw": ("sahihi?", "Ndiyo", "Hivyo", "Hapana"),
    "ta": ("சரியா?", "ஆம்", "எனவே", "இல்லை"),
    "tr": ("doğru?", "Evet", "Böylece", "Hayır"),
}
"""The question after the premise, and the words for entailment, neutral and contradiction."""

SENTIMENT = {
    "ar": ("المشاعر", "سلبي", "محايد", "إيجابي"),
    "en": ("Sentiment", "negative", "neutral", "positive"),
    "hi": ("भावना", "नकारात्मक", "तटस्थ", "सकारात्मक"),
    "sw": ("Hisia", "hasi", "kawaida", "chanya"),
    "ta": ("உணர்வு", "எதிர்மறை", "நடுநிலை", "நேர்மறை"),
    "tr": ("Duygu", "olumsuz", "nötr", "olumlu"),
}
"""The heading, and the words for negative, neutral and positive."""

HEADLINE = {
    "ar": ("الملخص", "العنوان"),
    "en": ("Summary", "Headline"),
    "hi": ("सारांश", "शीर्षक"),
    "sw": ("Muhtasari", "Kichwa cha habari"),
    "ta": ("சுருக்கம்", "தலைப்பு"),
    "tr": ("Özet", "Başlık"),
}
"""The labels before a summary and before its headline."""

LANGUAGE = {
    "ar": "العربية",
    "en": "English",
    "hi": "हिन्दी",
    "sw": "Kiswahili",
    "ta": "தமிழ்",
    "tr": "Türkçe",
}
"""Each language's own name; the label before a sentence of a translation."""


def words(table: Mapping[str, T], language: str, kind: str) -> T:
    """Return the entry of a language; ``UserError`` that lists the known languages if there is none."""
    if language not in table:
        raise UserError(
            f"evaluate.tasks.{kind}: no prompt for language {language!r}.{nearest(language, table)} "
            f"Known: {', '.join(sorted(table))}"
        )
    return table[language]
