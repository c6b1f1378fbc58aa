"""What results record of the process that made them: versions and peak memory."""

import contextlib
import platform
import resource
from importlib import metadata

from nemo_adapt import __version__

RECORDED_VERSIONS = ("torch", "megatron-core", "transformers", "tokenizers", "sentencepiece", "numpy", "hydra-core")


def peak_memory_mib() -> int:
    """Return the peak resident memory, in MiB, of this process or of its largest child that has ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) >> 10


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the packages that results depend on."""
    found = {"python": platform.python_version(), "nemo_adapt": __version__}
    for name in RECORDED_VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
