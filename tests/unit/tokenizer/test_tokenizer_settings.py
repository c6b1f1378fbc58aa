"""Invalid settings of the tokenizer stage are found from the configuration alone."""

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
def test_invalid_settings_raise_one_line_errors(given, says):
    with pytest.raises(UserError) as error:
        settings.check(config(**given))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_valid_settings_pass():
    settings.check(config())
    settings.check(config(guard_share=1.0, keep_marks="True", sweep=[10], target_disparity=1.1, parallel=BOTH))
    settings.check(config(new_tokens=0, sweep=[10]))  # nothing is added, so nothing is measured


def test_methods_in_the_settings_are_those_registered():
    assert sorted(settings.METHODS) == METHODS.names()


def test_settings_check_imports_no_heavy_package():
    heavy = "{'torch', 'numba', 'numpy', 'transformers', 'tokenizers', 'sentencepiece'}"
    code = f"import sys, nemo_adapt.tokenizer.settings; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
