"""Element ranges of a parameter, which need not be whole rows, as rectangles that a checkpoint can store.

The distributed optimizer concatenates the parameters and cuts them into as many equal ranges as there are ranks, so
that a rank's part of a matrix can begin and end within a row. A checkpoint stores only rectangles.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

Rectangle = tuple[tuple[int, ...], tuple[int, ...]]
"""Offset and shape of a rectangle, by axis."""


def rectangles(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Rectangle]:
    """Yield the rectangles that make up elements ``start`` to ``stop`` of a tensor of ``shape``, in element order.

    In a matrix they are at most three: the end of a row, whole rows, and the beginning of a row.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    while start < stop:
        offset = tuple(start // stride % length for stride, length in zip(strides, shape, strict=True))
        axis = next(axis for axis, stride in enumerate(strides) if start % stride == 0 and start + stride <= stop)
        count = min((stop - start) // strides[axis], shape[axis] - offset[axis])
        yield offset, (*(1 for _ in shape[:axis]), count, *shape[axis + 1 :])
        start += count * strides[axis]


def sharded_parts(whole: Any, name: str, start: int, values: torch.Tensor) -> list[ShardedTensor]:
    """Return ``values``, which begin at element ``start`` of a parameter, as shards of the checkpoint tensor ``name``.

    ``whole`` is the parameter's own ``ShardedTensor``, or the factory of those that it consists of (gate and up
    projection are one parameter). The shards are views of ``values``, in order. Each is its own main replica, as no
    other rank of the DP group has the same elements.
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
                allow_shape_mismatch=piece.allow_shape_mismatch,  # tables: another TP pads them to other rows
            )
            found.append(part)
            low += count
    return found
