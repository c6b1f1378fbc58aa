"""Parts of a parameter that are no rows: elements from one to another, as rectangles that a checkpoint can hold.

The distributed optimizer cuts the parameters, one after the other, into as many equal stretches as there are ranks, so
that a rank's part of a matrix begins and ends somewhere within a row. A checkpoint knows rectangles alone.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

Rectangle = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a rectangle begins and its shape, by axis."""


def rectangles(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Rectangle]:
    """The rectangles that elements ``start`` to ``stop`` of a tensor of ``shape`` are, in the order of elements.

    Of a matrix these are at most three: the end of a row, whole rows, and the beginning of a row.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    while start < stop:
        offset = tuple(start // stride % length for stride, length in zip(strides, shape, strict=True))
        axis = next(axis for axis, stride in enumerate(strides) if start % stride == 0 and start + stride <= stop)
        count = min((stop - start) // strides[axis], shape[axis] - offset[axis])
        yield offset, (*(1 for _ in shape[:axis]), count, *shape[axis + 1 :])
        start += count * strides[axis]


def sharded_parts(whole: Any, name: str, start: int, values: torch.Tensor) -> list[ShardedTensor]:
    """``values``, from element ``start`` of a parameter on, as parts of the tensor ``name`` of a checkpoint.

    ``whole`` is the parameter's own ``ShardedTensor``, or the factory of those that it consists of (a gate and what it
    is multiplied with are one parameter). Parts are views of ``values``, in their order. No other rank of the DP group
    has them, so that none is another's replica there.
    """
    found, stop = [], start + len(values)
    for piece in whole.build() if isinstance(whole, ShardedTensorFactory) else [whole]:
        begin = piece.data.storage_offset() - whole.data.storage_offset()
        low, high = max(start, begin), min(stop, begin + piece.data.numel())
        for offset, size in rectangles(piece.local_shape, low - begin, high - begin):
            count = math.prod(size)
            part = ShardedTensor(
                f"{name}.{piece.key}",
                values[low - start : low - start + count].view(size),
                values.dtype,
                size,
                piece.global_shape,
                tuple(base + moved for base, moved in zip(piece.global_offset, offset, strict=True)),
                axis_fragmentations=None,
                replica_id=(*piece.replica_id[:-1], 0),
            )
            found.append(part)
            low += count
    return found
