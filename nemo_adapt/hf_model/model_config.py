"""config.json of a Hugging Face model folder: read without torch, as a launch and ``plan`` only need its numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nemo_adapt import families
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Family, Shape
from nemo_adapt.files import read_object


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of a model folder, of its language model if it also reads images.

    ``UserError`` when the folder or the file is missing or damaged.
    """
    if not folder.is_dir():
        wrong = "is a file: give the folder that it is in" if folder.exists() else "does not exist"
        raise UserError(f"model folder {folder} {wrong}")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder} has no config.json: give the folder of a Hugging Face model")
    content = read_object(path)
    with _named(folder):
        return dict(families.language_model(content))


def read_shape(folder: Path) -> tuple[Family, Shape]:
    """Return the family and the shape of a folder's model; ``UserError`` if config.json is damaged or not covered."""
    config = read_config(folder)
    with _named(folder):
        family = families.of(config)
        return family, family.shape(config)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Context in which errors about config.json say whose it is: a command may read several."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder}/{error}") from None
