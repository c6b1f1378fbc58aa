"""``python -m nemo_adapt.smallworld FOLDER``: write the data of the demo."""

import argparse
import inspect
import sys
import time
from pathlib import Path

from transformers.utils import logging

from nemo_adapt.console.progress import say
from nemo_adapt.errors import UserError
from nemo_adapt.smallworld.make import make


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, write the folder and print what is in it; return the exit code."""
    defaults = inspect.signature(make).parameters
    parser = argparse.ArgumentParser(prog="python -m nemo_adapt.smallworld", description=__doc__)
    parser.add_argument("folder", type=Path, help="where text/ and base/ are written")
    parser.add_argument("--seed", type=int, default=defaults["seed"].default)
    parser.add_argument("--documents", type=int, default=defaults["documents"].default, help="training documents")
    options = parser.parse_args(arguments)
    logging.disable_progress_bar()
    began = time.monotonic()
    try:
        made = make(options.folder, seed=options.seed, documents=options.documents)
    except UserError as error:
        say(str(error))
        return 2
    if not made:
        say(f"{options.folder}: already made from the same parameters")
        return 0
    for path in sorted((options.folder / "text").iterdir()):
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    say(f"{options.folder / 'base'}: untrained English base model")
    say(f"made in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
