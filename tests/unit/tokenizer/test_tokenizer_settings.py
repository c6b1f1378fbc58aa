"""Settings of the tokenizer stage that cannot be meant are said from the configuration alone."""

import subprocess
import sys

import pytest

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.tokenizer import settings
from nemo_adapt.tokenizer.methods import METHODS

BOTH = {"en": "en.txt", "tr": "tr.txt"}


def config(**given):
    made = Config()
    for key, value in given.items():
        setattr(made.tokenizer, key, value)
    return made


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "continu"}, "Did you mean 'continue'? Known: continue, union"),
        ({"keep_marks": "maybe"}, "tokenizer.keep_marks=maybe: choose one of auto, true, false"),
        ({"sweep": [10, 0], "parallel": BOTH}, "tokenizer.sweep=[10, 0]: every size must be above 0"),
        ({"sweep": [10]}, "tokenizer.sweep is measured on parallel text: name it in tokenizer.parallel"),
        ({"sweep": [10], "parallel": BOTH, "method": "union"}, "tokenizer.sweep needs tokenizer.method=continue"),
        ({"target_disparity": 1.1}, "tokenizer.target_disparity is measured on parallel text"),
        ({"target_disparity": 1.1, "parallel": BOTH, "reference": "de"}, "to hold de (tokenizer.reference)"),
        ({"target_disparity": 1.1, "parallel": {"en": "en.txt"}}, "and the target language"),
    ],
)
def test_what_cannot_be_meant(given, says):
    with pytest.raises(UserError) as error:
        settings.check(config(**given))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_what_can_be_meant():
    settings.check(config())
    settings.check(config(guard_share=1.0, keep_marks="True", sweep=[10], target_disparity=1.1, parallel=BOTH))
    settings.check(config(new_tokens=0, sweep=[10]))  # nothing is added, so nothing is measured


def test_the_methods_are_those_that_there_are():
    assert sorted(settings.METHODS) == METHODS.names()


def test_the_check_waits_for_no_heavy_import():
    heavy = "{'torch', 'numba', 'numpy', 'transformers', 'tokenizers', 'sentencepiece'}"
    code = f"import sys, nemo_adapt.tokenizer.settings; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
