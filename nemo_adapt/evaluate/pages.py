"""Reports as Markdown and as one self-contained HTML page, from templates with shared parts."""

import base64
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

PARTS = "nemo_adapt.evaluate"
"""The package with ``parts.md.j2``, ``page.html.j2``, ``parts.html.j2`` and ``page.css``."""


def write(name: str, package: str, view: Mapping[str, Any], out: Path) -> dict[str, str]:
    """Write NAME.md and NAME.html into ``out``, from the templates of these names in ``package``; return file -> text.

    Images that ``view`` names, relative to ``out``, must exist: the HTML page embeds them.
    """
    texts = {}
    for file, escape in ((f"{name}.md", False), (f"{name}.html", True)):
        environment = Environment(
            loader=ChoiceLoader([PackageLoader(package), PackageLoader(PARTS)]),
            autoescape=escape,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"embed": partial(_embed, out), "cell": _markdown_cell}
        texts[file] = environment.get_template(f"{file}.j2").render(view)
        (out / file).write_text(texts[file], encoding="utf-8")
    return texts


def _embed(out: Path, relative: str) -> str:
    """Return a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode((out / relative).read_bytes()).decode()


def _markdown_cell(text: str) -> str:
    """Escape text so that it cannot end a table cell or a line, or become markup."""
    escaped = " ".join(str(text).split())
    for character in "\\`*_|<[":
        escaped = escaped.replace(character, "\\" + character)
    return escaped
