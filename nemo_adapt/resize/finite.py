"""Check a source table for NaN and infinity, in one pass over its bytes at memory bandwidth."""

from typing import Any, NamedTuple

import numpy as np
import torch

from nemo_adapt.errors import UserError
from nemo_adapt.machine.compiled import compiled
from nemo_adapt.resize.table import BLOCK_BYTES, Source
from nemo_adapt.resize.threads import run_in_threads

READ_BYTES = 8 * BLOCK_BYTES
"""Bytes of rows that all threads check together."""
NAMED = 10
"""Most bad rows that a message names."""


class Bits(NamedTuple):
    """A floating-point dtype as integers: without the sign, infinity and NaN are the largest of them (IEEE 754)."""

    integers: torch.dtype
    unsigned: Any
    infinity: Any


BITS = {
    torch.bfloat16: Bits(torch.int16, np.int16(0x7FFF), np.int16(0x7F80)),
    torch.float16: Bits(torch.int16, np.int16(0x7FFF), np.int16(0x7C00)),
    torch.float32: Bits(torch.int32, np.int32(0x7FFF_FFFF), np.int32(0x7F80_0000)),
}


def check_finite(source: Source, count: int, where: str) -> None:
    """Raise ``UserError`` with the number and the first ten of the rows below ``count`` with NaN or infinity."""
    bad: list[int] = []
    for first, rows in source.local_blocks(count, READ_BYTES):
        if not _all_finite(rows):
            bad += (first + torch.nonzero(~torch.isfinite(rows).all(1))[:, 0]).tolist()
    device = source.like.device
    number = int(source.all_reduce(torch.tensor([len(bad)], device=device)))
    named: list[int] = []
    for _ in range(min(number, NAMED)):
        following = next((row for row in bad if not named or row > named[-1]), source.total)
        named.append(-int(source.all_reduce(torch.tensor([-following], device=device), maximum=True)))
    if number:
        rest = ", …" if number > len(named) else ""
        noun = "row holds" if number == 1 else "rows hold"
        raise UserError(
            f"{where}: {number} {noun} NaN or infinity: {', '.join(map(str, named))}{rest}; "
            "repair the model or download it again"
        )


def _all_finite(rows: torch.Tensor) -> bool:
    if rows.device.type != "cpu" or rows.dtype not in BITS:
        return bool(torch.isfinite(torch.stack(torch.aminmax(rows))).all())  # both are NaN if any value is
    bits, found = BITS[rows.dtype], [False]
    numbers = rows.reshape(-1).view(bits.integers).numpy()
    step = BLOCK_BYTES // rows.element_size()

    def work(begins: list[int]) -> None:
        if any(_largest(numbers[at : at + step], bits.unsigned) >= bits.infinity for at in begins):
            found[0] = True

    run_in_threads(work, list(range(0, len(numbers), step)), rows.device)
    return not found[0]


@compiled
def _largest(numbers: Any, unsigned: Any) -> Any:
    """Return the largest magnitude, in the array's own integer type, so that the loop is vectorized."""
    largest = numbers.dtype.type(0)
    for at in range(len(numbers)):
        magnitude = numbers.dtype.type(numbers[at] & unsigned)
        if magnitude > largest:
            largest = magnitude
    return largest
