"""Check before the first stage of a run that the last one will be able to read what it measures."""

import contextlib
import io

from nemo_adapt.config import Config
from nemo_adapt.corpora.text import documents
from nemo_adapt.evaluate.tasks import load, scores
from nemo_adapt.run.inputs import Inputs, of_group

TEXTS, TASKS = "texts", "tasks"
"""Groups of the stage's inputs: by language, and by ``KIND.LANGUAGE``."""


def check(config: Config, inputs: Inputs) -> None:
    """Raise ``UserError`` for held-out texts and tasks (``inputs`` of the stage) that cannot be read or used."""
    settings = config.evaluate
    for path in of_group(inputs, TEXTS).values():
        size = 0
        for document in documents([path], config.data.text_field):
            size += len(document.encode("utf-8"))
            if 0 < settings.max_bytes < size:
                break
    with contextlib.redirect_stdout(io.StringIO()):  # the stage says what is left out
        read = load.read(settings, of_group(inputs, TASKS))
    if not (config.site.venv or config.site.container.image):  # which may have packages that this environment lacks
        load.require_packages(read)
    scores.spbleu_model(settings.spbleu_model)
