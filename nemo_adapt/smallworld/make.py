"""Write the demo's data: parallel text in four languages and an untrained English base model."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from nemo_adapt.errors import UserError
from nemo_adapt.smallworld import world
from nemo_adapt.smallworld.base import HEAD, write_base
from nemo_adapt.smallworld.concepts import LANGUAGES

MARK = "smallworld.json"
HELDOUT_SHARE = 1 / 42


def make(
    folder: Path, seed: int = 7, documents: int = 20_500, vocab: int = 1000, hidden: int = 192, layers: int = 4
) -> bool:
    """Write ``folder/text`` and ``folder/base``; return False if they were already made from the same parameters.

    ``documents`` is the number of training documents; held-out ones are added to it. The files are written to
    ``folder.partial``, which is renamed at the end. Raises ``UserError`` for parameters out of range and for a folder
    that was not made by smallworld.
    """
    if documents < 1 or vocab < 257 or layers < 1 or hidden < 1 or hidden % (3 * HEAD):
        raise UserError(
            f"smallworld: documents {documents}, vocab {vocab}, hidden {hidden}, layers {layers} cannot be made; "
            f"take at least 1, 257, {3 * HEAD} (or a multiple) and 1"
        )
    parameters = {"seed": seed, "documents": documents, "vocab": vocab, "hidden": hidden, "layers": layers}
    mark = json.dumps({**parameters, "version": version()}, indent=2) + "\n"
    if (folder / MARK).is_file() and (folder / MARK).read_text() == mark:
        return False
    if folder.exists() and not (folder / MARK).is_file():
        raise UserError(f"{folder}: exists and was not made by smallworld; name another folder or remove it")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "text").mkdir(parents=True)
    stories = world.documents(seed)
    train = list(itertools.islice(stories, documents))
    heldout = list(itertools.islice(stories, max(1, int(documents * HELDOUT_SHARE))))
    _write_text(partial / "text", "train", train)
    _write_text(partial / "text", "heldout", heldout)
    write_base(partial / "base", (document["en"] for document in train), seed, vocab, hidden, layers)
    (partial / MARK).write_text(mark)
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return True


def version() -> str:
    """Return a hash of this package's source files, as a change of the code may change the data."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _write_text(folder: Path, name: str, written: Iterable[world.Document]) -> None:
    lines = list(written)
    for language in LANGUAGES:
        text = "".join(f"{document[language]}\n" for document in lines)
        (folder / f"{language}.{name}.txt").write_bytes(text.encode())
