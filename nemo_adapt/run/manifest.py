"""The manifest of a finished stage, in the folder of its result."""

import json
from pathlib import Path
from typing import Any

from nemo_adapt.errors import UserError

MANIFEST = "manifest.json"
FILES = "files"
"""Key of a manifest: names of files without which the result is not complete."""
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


def missing_file(folder: Path) -> Path | None:
    """Return a file that the manifest of the result in ``folder`` lists (``FILES``) and that is gone, if there is one:
    file systems for temporary data delete what nobody has read for weeks."""
    listed = (folder / name for name in read_manifest(folder).get(FILES, []))
    return next((path for path in listed if not path.exists()), None)
