"""Whether the tensors in a training checkpoint are what was written, by the checksums that ``torch.save`` has stored.

A file system that loses power, or a bad disk, may leave a file with its size and other contents. Each tensor is a zip
archive with the CRC-32 of its records, which torch does not compare when it loads one (its miniz is built with
``MINIZ_DISABLE_ZIP_READER_CRC32_CHECKS``). Converted checkpoints have none (``writer.py``).
"""

import errno
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemo_adapt.checkpoint.folders import METADATA
from nemo_adapt.checkpoint.integrity import writer
from nemo_adapt.checkpoint.metadata import Extent, stored_extents
from nemo_adapt.checkpoint.reader import ByteRange
from nemo_adapt.errors import UserError

THREADS = 4
"""Threads of a rank; a core compares 1.8 GB/s (benchmarks/results/checkpoint.md)."""
OPTIMIZER = "optimizer."
"""Beginning of the keys of its state."""


def damaged_contents(checkpoint: Path, rank: int = 0, ranks: int = 1, with_optimizer: bool = True) -> str:
    """Compare this rank's share of a checkpoint with what was written; return what is damaged, or an empty string.

    The share is the files that ranks ``rank``, ``rank + ranks`` and so on have written: in the same layout, mostly
    those that this rank will load. ``with_optimizer``: also the optimizer's state. ``UserError`` for a file that cannot
    be read now: the checkpoint may be whole.
    """
    mine = [
        extent
        for key, extent in stored_extents(checkpoint / METADATA)
        if writer(extent.file) % ranks == rank and (with_optimizer or not key.startswith(OPTIMIZER))
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda part: _first_damaged(checkpoint, part), (mine[at::THREADS] for at in range(THREADS)))
        return next(filter(None, found), "")


def _first_damaged(checkpoint: Path, extents: Iterable[Extent]) -> str:
    for extent in extents:
        try:
            with (
                (checkpoint / extent.file).open("rb") as stream,
                zipfile.ZipFile(ByteRange(stream, extent.begin, extent.length)) as archive,
            ):
                is_whole = archive.testzip() is None
        except OSError as error:
            if error.errno != errno.EINVAL:  # that is of an offset in damaged bytes
                raise UserError(
                    f"{checkpoint / extent.file} cannot be read ({error.strerror}): run the same command again; if it "
                    f"stays so, rename {checkpoint} to {checkpoint.name}.damaged, and the one before is used"
                ) from None
            is_whole = False
        except Exception:  # damaged bytes may raise anything
            is_whole = False
        if not is_whole:
            return f"{extent.file} is not what was written, at byte {extent.begin:,}"
    return ""
