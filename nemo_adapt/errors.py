"""The one exception that is the user's to mend."""

ERROR = "nemo-adapt: error: "
"""What the line of a mistake begins with, on the screen and in logs, where ``status`` and studies look for it."""


class UserError(Exception):
    """A mistake in the input: one line that says what is wrong, where, and what to do.

    The command line prints the line without a traceback and exits with code 2. Anything else that
    escapes is a bug of ours and keeps its traceback.
    """
