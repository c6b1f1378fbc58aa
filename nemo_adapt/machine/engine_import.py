"""Whether Transformer Engine can be imported."""

import functools
import importlib.util
import sys

from nemo_adapt.console.progress import say
from nemo_adapt.machine import ranks

ENGINE = "transformer_engine"


@functools.cache
def engine_loads() -> bool:
    """Return whether Transformer Engine is installed and can be imported. If its import fails, it counts as not
    installed from then on, because Megatron's own import of it would fail too."""
    if importlib.util.find_spec(ENGINE) is None:
        return False
    try:
        importlib.import_module(f"{ENGINE}.pytorch")
    except Exception as error:  # libraries raise different errors for missing parts
        for name in [name for name in sys.modules if name.startswith(f"{ENGINE}.")]:
            del sys.modules[name]
        sys.modules[ENGINE] = None  # type: ignore[assignment]
        if ranks.is_first():
            why = str(error).strip().partition("\n")[0]
            say(f"Transformer Engine is installed, but cannot be imported and is not used: {why}")
        return False
    return True
