"""Check before any text is tokenized that every file of a set can be read, and has a document."""

from nemo_adapt.config import Config
from nemo_adapt.corpora.text import documents
from nemo_adapt.run.inputs import Inputs


def check(config: Config, inputs: Inputs) -> None:
    """Raise ``UserError`` for the first file of ``inputs["text"]`` without a document, or whose first cannot be read.

    Each file is read up to its first document: a wrong name of the field, or a file of blank lines, would otherwise
    show only when a process comes to it.
    """
    for path in inputs["text"]:
        next(documents([path], config.data.text_field))
