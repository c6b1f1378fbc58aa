"""A job's container: pyxis' options for srun, and the paths that every node must have.

According to the source of pyxis 0.24 and enroot 4.1, mounts are separated by commas and their parts by colons, neither
of which can be escaped; an image is a file only if its name begins with ``/`` or ``.``; and variables of the image
override the job's, except those in ``--container-env``.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run.artifact import check_replaceable

SHELL_CHARACTERS = '"$`'
"""Shell characters that pyxis does not quote in mounts: ``$(...)`` would be executed on the node."""
SOURCE_KEYWORDS = ("tmpfs", "umount")
"""Sources of mounts that are keywords of enroot, not folders of the node."""


def is_file(image: str) -> bool:
    """Return whether a container image is a file, not a name in a registry."""
    return image.startswith(("/", "./", "../", "~")) or image.endswith(".sqsh")


def options(config: Config, folders: Sequence[Path], workdir: Path, variables: Sequence[str]) -> list[str]:
    """Return the options for srun; none without an image. ``UserError`` for mounts that pyxis would misread.

    ``folders`` are mounted at the same paths. ``variables`` keep the job's values even where the image sets them.
    """
    if not config.site.container.image:
        return []
    words = [f"--container-image={image(config, workdir)}", f"--container-workdir={workdir}"]
    words += [f"--container-mounts={','.join(mounts(config, folders))}"]
    return [*words, *([f"--container-env={','.join(variables)}"] if variables else [])]


def image(config: Config, workdir: Path) -> str:
    """Return the image as pyxis expects it: for a file, its absolute path."""
    given = config.site.container.image
    return str(workdir / given) if is_file(given) else given


def mounts(config: Config, folders: Sequence[Path]) -> list[str]:
    """Return all mounts as ``source:target`` or ``source:target:flags``; ``UserError`` if pyxis would misread one."""
    for folder in folders:
        if ":" in str(folder):
            raise UserError(f"{folder} cannot be mounted in a container: its name has a colon")
    given = [*(f"{folder}:{folder}" for folder in folders), *config.site.container.mounts]
    for mount in given:
        if found := re.search(f"[,{SHELL_CHARACTERS}]", mount):
            raise UserError(f"{mount} cannot be mounted in a container: its name has {found.group()!r}")
        source, *rest = mount.split(":")
        if not (source.startswith(("/", ".")) or source in SOURCE_KEYWORDS) or any(not part for part in rest[:1]):
            raise UserError(f"site.container.mounts: {mount!r} is not /host:/inside or /host:/inside:ro")
    if config.site.container.image:
        check_results(config, folders[0], given)
    return given


def check_results(config: Config, workdir: Path, given: Sequence[str]) -> None:
    """Raise ``UserError`` for a folder of results outside all mounts ``given``, or in one that cannot be written to:
    what a job writes there is lost with its container. Likewise for an ``export.dir`` that an export cannot replace."""
    further = [option.partition("=")[2] for option in config.site.srun if option.startswith("--container-mounts=")]
    parts = [mount.split(":") for mount in [*given, *",".join(further).split(",")]]
    flags = [part[2] if len(part) > 2 else "" for part in parts]
    inside = {
        os.path.normpath(workdir / (part[1] if len(part) > 1 else part[0])): workdir / part[0]
        for part, flag in zip(parts, flags, strict=True)
        if part[0] not in ("", *SOURCE_KEYWORDS) and "ro" not in re.split("[,+]", flag)
    }
    places = {
        "export.dir": config.export.dir,
        "run.shared": config.run.shared,
        "evaluate.cache": config.evaluate.cache,
    }
    for key, place in places.items():
        if not place:
            continue
        path = Path(os.path.normpath(workdir / place))
        needed = path.parent if key == "export.dir" else path  # an export is renamed: a mount point cannot be
        target = next((each for each in inside if needed.is_relative_to(each)), None)
        if target is not None:
            here = inside[target] / path.relative_to(target)
            needed = (inside[target] / needed.relative_to(target)).resolve()  # where links lead
        if target is None or not any(needed.is_relative_to(source.resolve()) for source in inside.values()):
            raise UserError(
                f"{key}={place}: {needed} is in no folder that the jobs' container may write to: add it to "
                "site.container.mounts"
            )
        if key == "export.dir":
            check_replaceable("export", here)


def required_paths(config: Config, workdir: Path) -> list[str]:
    """Return the paths that every node must have: the image, if it is a file, and the sources of mounts."""
    if not config.site.container.image:
        return []
    sources = [mount.partition(":")[0] for mount in config.site.container.mounts]
    files = [image(config, workdir)] if is_file(config.site.container.image) else []
    return [*files, *(source for source in sources if source.startswith("/"))]
