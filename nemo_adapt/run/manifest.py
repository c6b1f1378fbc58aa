"""The manifest of a finished stage, in the folder of its result."""

import json
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError

MANIFEST = "manifest.json"
OUR_KEYS = {"stage", "fingerprint", "inputs", "config"}
"""Keys that tell our manifest from a ``manifest.json`` of another program."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a stage's result; empty if the folder has none, or only a ``manifest.json`` of another
    program. Raises ``UserError`` if the file is not JSON."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        raise UserError(
            f"{folder / MANIFEST} is damaged, or of another program: if nemo-adapt made {folder}, delete it and run "
            "again; else choose another folder"
        ) from None
    return found if isinstance(found, dict) and found.keys() >= OUR_KEYS else {}
