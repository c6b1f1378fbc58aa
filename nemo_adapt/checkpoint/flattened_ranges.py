"""Ranges of a flattened parameter, which need not be whole rows, as shards that a checkpoint can store.

The distributed optimizer concatenates the parameters and cuts them into as many equal ranges as there are ranks, so
that a rank's part of a matrix can begin and end within a row. A checkpoint stores only boxes.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

from nemo_adapt.checkpoint.box import Box, Dims


def boxes_of(shape: Dims, start: int, stop: int) -> Iterator[Box]:
    """Yield the boxes that make up elements ``start`` to ``stop`` of a tensor of ``shape``, in element order.

    In a matrix they are at most three: the end of a row, whole rows, and the beginning of a row.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    while start < stop:
        offset = tuple(start // stride % length for stride, length in zip(strides, shape, strict=True))
        axis = next(axis for axis, stride in enumerate(strides) if start % stride == 0 and start + stride <= stop)
        count = min((stop - start) // strides[axis], shape[axis] - offset[axis])
        yield Box(offset, (*(1 for _ in shape[:axis]), count, *shape[axis + 1 :]))
        start += count * strides[axis]


def shards_of(parameter: Any, name: str, start: int, values: torch.Tensor) -> list[ShardedTensor]:
    """Return ``values``, which begin at element ``start`` of a parameter, as shards of the checkpoint tensor ``name``.

    ``parameter`` is its own ``ShardedTensor``, or the factory of those that it consists of (gate and up projection are
    one parameter). The shards are views of ``values``, in order. Each is its own main replica, as no other rank of the
    DP group has the same elements.
    """
    shards, stop = [], start + len(values)
    for whole in parameter.build() if isinstance(parameter, ShardedTensorFactory) else [parameter]:
        begin = whole.data.storage_offset() - parameter.data.storage_offset()
        low, high = max(start, begin), min(stop, begin + whole.data.numel())
        for box in boxes_of(whole.local_shape, low - begin, high - begin):
            shard = ShardedTensor(
                f"{name}.{whole.key}",
                values[low - start : low - start + box.elements].view(box.shape),
                values.dtype,
                box.shape,
                whole.global_shape,
                tuple(base + moved for base, moved in zip(whole.global_offset, box.offset, strict=True)),
                axis_fragmentations=None,
                replica_id=(*whole.replica_id[:-1], 0),
                allow_shape_mismatch=whole.allow_shape_mismatch,  # tables: another TP pads them to other rows
            )
            shards.append(shard)
            low += box.elements
    return shards
