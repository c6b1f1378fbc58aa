"""Element ranges of a parameter as rectangles."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

from nemo_adapt.checkpoint.parts import rectangles, sharded_parts

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def cut(tensor, offset, size):
    return tensor[tuple(slice(begin, begin + length) for begin, length in zip(offset, size, strict=True))]


@given(SHAPES, st.data())
def test_rectangles_cover_the_elements_in_order(shape, data):
    numbers = torch.arange(math.prod(shape)).view(shape)
    start = data.draw(st.integers(0, numbers.numel()))
    stop = data.draw(st.integers(start, numbers.numel()))
    found = [cut(numbers, offset, size) for offset, size in rectangles(shape, start, stop)]
    assert [number for piece in found for number in piece.flatten().tolist()] == list(range(start, stop))
    assert len(found) <= 2 * len(shape) - 1
    assert all(piece.numel() for piece in found)


def whole(parameter, columns, first_row=0, rows=None):
    """A rank's shard of the tensor "w": its rows from ``first_row`` on."""
    shape = (rows or len(parameter), columns)
    return ShardedTensor(
        "w", parameter, parameter.dtype, tuple(parameter.shape), shape, (first_row, 0), None, (0, 1, 3)
    )


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 7), st.data())
def test_parts_of_a_shard_have_its_offset_in_the_tensor(rows, columns, first_row, data):
    everything = torch.arange(float(20 * columns)).view(20, columns)
    shard = everything[first_row : first_row + rows]
    start = data.draw(st.integers(0, shard.numel() - 1))
    values = shard.flatten()[start : data.draw(st.integers(start + 1, shard.numel()))].double()
    found = sharded_parts(whole(shard, columns, first_row, 20), "optimizer.state.exp_avg", start, values)
    assert sum(part.data.numel() for part in found) == len(values)
    for part in found:
        assert torch.equal(part.data, cut(everything, part.global_offset, part.local_shape).double())
        assert (part.key, part.dtype) == ("optimizer.state.exp_avg.w", torch.float64)
        assert part.replica_id == (0, 1, 0), "no other rank of the DP group has it; those of the TP group do"
        assert part.data.untyped_storage().data_ptr() == values.untyped_storage().data_ptr(), "a view"


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_parts_of_gate_and_up_projection(rows, columns, data):
    """Two halves of one parameter are stored apart in the checkpoint: here the second one 100 rows further on."""
    buffer = torch.arange(float(2 * rows * columns + 5))
    parameter = buffer[5:].view(2 * rows, columns)  # at an offset in a buffer, as in the distributed optimizer

    def build(key, tensor, replica_id, flattened_range):
        gate, up = tensor.chunk(2)
        return [
            ShardedTensor(key, half, half.dtype, (rows, columns), (200, columns), (100 * number, 0), None, replica_id)
            for number, half in enumerate((gate, up))
        ]

    start = data.draw(st.integers(0, parameter.numel() - 1))
    stop = data.draw(st.integers(start + 1, parameter.numel()))
    factory = ShardedTensorFactory("w", parameter, build, torch.cat, (0, 0, 2))
    found = sharded_parts(factory, "m", start, parameter.flatten()[start:stop])
    laid_out = torch.full((200, columns), -1.0)
    for part in found:
        cut(laid_out, part.global_offset, part.local_shape).copy_(part.data)
    again = torch.cat([laid_out[:rows], laid_out[100 : 100 + rows]]).flatten()
    assert torch.equal(again[start:stop], parameter.flatten()[start:stop])
    assert (laid_out == -1).sum() == laid_out.numel() - (stop - start)
    assert torch.equal(torch.cat([part.data.flatten() for part in found]), parameter.flatten()[start:stop])
