"""Whether Transformer Engine can be imported."""

import functools
import importlib.util
import sys

from nemo_adapt import ranks
from nemo_adapt.progress import say

ENGINE = "transformer_engine"


@functools.cache
def engine_loads() -> bool:
    """Whether Transformer Engine is there and can be imported. If it cannot, it counts as not installed from now on:
    Megatron would end at it."""
    if importlib.util.find_spec(ENGINE) is None:
        return False
    try:
        importlib.import_module(f"{ENGINE}.pytorch")
    except Exception as error:  # each library has its own for what it does not find
        for name in [name for name in sys.modules if name.startswith(f"{ENGINE}.")]:
            del sys.modules[name]
        sys.modules[ENGINE] = None  # type: ignore[assignment]
        if ranks.is_first():
            why = str(error).strip().partition("\n")[0]
            say(f"Transformer Engine is installed, but cannot be imported and is not used: {why}")
        return False
    return True
