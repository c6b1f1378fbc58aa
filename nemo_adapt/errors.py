"""The one exception for mistakes that the user can fix, and what such messages need."""

ERROR = "nemo-adapt: error: "
"""Prefix of an error line on the screen and in logs, where ``status`` and studies look for it."""


class UserError(Exception):
    """A mistake in the input; the message is one line that says what is wrong, where, and what to do.

    The command line prints that line without a traceback and exits with code 2. Any other exception that
    escapes is a bug of ours and keeps its traceback.
    """


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line, or its type's name if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__
