"""Boxes of tensors: ranges of indices along every dimension.

The words of this folder: a *box* is an offset and a shape. A checkpoint stores a tensor as *chunks* (PyTorch's word),
boxes that cover it exactly once: ``writer.NewChunk`` is one to write, ``metadata.StoredChunk`` one to read. A *shard*
(Megatron's word) is what one rank holds of a tensor.
"""

import math
from dataclasses import dataclass

import torch

Dims = tuple[int, ...]
"""A number for each dimension."""


@dataclass(frozen=True)
class Box:
    """The box of ``shape`` that begins at ``offset`` of a tensor."""

    offset: Dims
    shape: Dims

    @classmethod
    def of_rows(cls, start: int, stop: int, row_shape: Dims, layer: int | None = None) -> "Box":
        """Return rows ``start`` to ``stop`` of a tensor, or of ``layer`` in a tensor of stacked layers."""
        box = cls((start, *(0 for _ in row_shape)), (stop - start, *row_shape))
        return box if layer is None else box.stacked(layer)

    def stacked(self, layer: int) -> "Box":
        """Return the same box of ``layer`` in a tensor of stacked layers: one with another first dimension."""
        return Box((layer, *self.offset), (1, *self.shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def overlap(self, other: "Box") -> "Box | None":
        """Return the intersection of two boxes of one tensor; ``None`` if it is empty."""
        offset = tuple(map(max, self.offset, other.offset))
        ends = (
            min(a + b, c + d) for a, b, c, d in zip(self.offset, self.shape, other.offset, other.shape, strict=True)
        )
        shape = tuple(end - begin for begin, end in zip(offset, ends, strict=True))
        return Box(offset, shape) if all(length > 0 for length in shape) else None

    def within(self, outer: "Box") -> "Box":
        """Return this box as a box of the tensor that ``outer``, which contains it, cuts out."""
        return Box(tuple(at - begin for at, begin in zip(self.offset, outer.offset, strict=True)), self.shape)

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the box of ``tensor``, without a copy."""
        for dimension, (begin, length) in enumerate(zip(self.offset, self.shape, strict=True)):
            tensor = tensor.narrow(dimension, begin, length)
        return tensor
