"""Check the settings of the tokenizer stage. Light imports only: this runs before anything starts."""

from nemo_adapt.config import Config, TokenizerConfig
from nemo_adapt.errors import UserError
from nemo_adapt.registry import nearest

METHODS = ("continue", "union")
"""Values of ``tokenizer.method``: the names that ``methods`` registers, whose imports are slow."""
KEEP_MARKS = ("auto", "true", "false")
"""Values of ``tokenizer.keep_marks``."""


def check(config: Config) -> None:
    """Raise ``UserError`` for unknown names and for settings that contradict each other; read no file."""
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
    if settings.given and (settings.sweep or settings.target_disparity):
        raise UserError("tokenizer.given: nothing is learned; leave out tokenizer.sweep and tokenizer.target_disparity")
    if settings.new_tokens:  # without new tokens nothing is measured
        _check_measured(settings)


def _check_measured(settings: TokenizerConfig) -> None:
    """Raise ``UserError`` for a sweep or a target disparity that cannot be measured."""
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
