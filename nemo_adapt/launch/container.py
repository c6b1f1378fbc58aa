"""What pyxis is told of a job's container: its options of srun, and what all nodes must have.

Read from pyxis 0.24 and enroot 4.1: mounts are separated by commas and their parts by colons, with nothing to escape
either; an image is a file only where its name begins with ``/`` or ``.``; and the image's variables come before the
job's, but for those of ``--container-env``.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.errors import UserError

OBEYED = '"$`'
"""Characters that pyxis hands to a shell on the node within names of mounts: ``$(...)`` would be run there."""
NO_FOLDERS = ("tmpfs", "umount")
"""What stands for no folder of the node where a mount's source is."""


def is_file(image: str) -> bool:
    """Whether a container's image is a file, and no name in a registry."""
    return image.startswith(("/", "./", "../", "~")) or image.endswith(".sqsh")


def options(config: Config, folders: Sequence[Path], workdir: Path, variables: Sequence[str]) -> list[str]:
    """The options of srun, none without an image. ``UserError`` for what pyxis would not take as it was meant.

    ``folders`` are mounted under their own names, ``variables`` kept from the image's own of the same name.
    """
    if not config.site.container.image:
        return []
    words = [f"--container-image={image(config, workdir)}", f"--container-workdir={workdir}"]
    words += [f"--container-mounts={','.join(mounts(config, folders))}"]
    return [*words, *([f"--container-env={','.join(variables)}"] if variables else [])]


def image(config: Config, workdir: Path) -> str:
    """The image as pyxis has to be told: of a file the whole path."""
    given = config.site.container.image
    return str(workdir / given) if is_file(given) else given


def mounts(config: Config, folders: Sequence[Path]) -> list[str]:
    """All mounts, as ``source:target`` or ``source:target:flags``; ``UserError`` for one that pyxis would misread."""
    for folder in folders:
        if ":" in str(folder):
            raise UserError(f"{folder} cannot be mounted in a container: its name has a colon")
    given = [*(f"{folder}:{folder}" for folder in folders), *config.site.container.mounts]
    for mount in given:
        if found := re.search(f"[,{OBEYED}]", mount):
            raise UserError(f"{mount} cannot be mounted in a container: its name has {found.group()!r}")
        source, *rest = mount.split(":")
        if not (source.startswith(("/", ".")) or source in NO_FOLDERS) or any(not part for part in rest[:1]):
            raise UserError(f"site.container.mounts: {mount!r} is no /host:/inside or /host:/inside:ro")
    return given


def needed(config: Config, workdir: Path) -> list[str]:
    """Files and folders that must be on each node: the image, where it is a file, and the sources of mounts."""
    if not config.site.container.image:
        return []
    sources = [mount.partition(":")[0] for mount in config.site.container.mounts]
    files = [image(config, workdir)] if is_file(config.site.container.image) else []
    return [*files, *(source for source in sources if source.startswith("/"))]
