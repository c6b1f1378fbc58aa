"""Which settings of the tokenizer stage cannot be meant. Only light imports: this is said before anything starts."""

from nemo_adapt.config import Config, TokenizerConfig
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

METHODS = ("continue", "union")
"""Values of ``tokenizer.method``: the names that ``methods`` registers, whose imports are heavy."""
KEEP_MARKS = ("auto", "true", "false")
"""Values of ``tokenizer.keep_marks``."""


def check(config: Config) -> None:
    """``UserError`` for names that are not known and settings that do not fit each other; looks at no file."""
    settings = config.tokenizer
    if settings.method not in METHODS:
        raise UserError(
            f"unknown tokenizer.method={settings.method}.{nearest(settings.method, METHODS)} "
            f"Known: {', '.join(METHODS)}"
        )
    if settings.keep_marks.lower() not in KEEP_MARKS:
        raise UserError(f"tokenizer.keep_marks={settings.keep_marks}: choose one of {', '.join(KEEP_MARKS)}")
    if any(size < 1 for size in settings.sweep):
        raise UserError(f"tokenizer.sweep={settings.sweep}: every size must be above 0")
    if settings.new_tokens:  # without new tokens nothing is measured
        _check_measured(settings)


def _check_measured(settings: TokenizerConfig) -> None:
    """``UserError`` for a sweep or a target that has nothing to be measured on."""
    for key in ("target_disparity", "sweep"):
        if getattr(settings, key) and settings.method != "continue":
            raise UserError(f"tokenizer.{key} needs tokenizer.method=continue: other vocabularies do not nest")
        if getattr(settings, key) and not settings.parallel:
            raise UserError(f"tokenizer.{key} is measured on parallel text: name it in tokenizer.parallel")
    if settings.target_disparity and (settings.reference not in settings.parallel or len(settings.parallel) < 2):
        raise UserError(
            f"tokenizer.target_disparity needs tokenizer.parallel to hold {settings.reference} (tokenizer.reference) "
            "and the target language"
        )
