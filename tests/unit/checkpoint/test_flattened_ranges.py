"""Ranges of a flattened parameter as boxes and shards."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.dist_checkpointing import ShardedTensor
from megatron.core.dist_checkpointing.mapping import ShardedTensorFactory

from nemo_adapt.checkpoint.box import Box
from nemo_adapt.checkpoint.flattened_ranges import boxes_of, shards_of

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.data())
def test_boxes_cover_the_elements_in_order(shape, data):
    numbers = torch.arange(math.prod(shape)).view(shape)
    start = data.draw(st.integers(0, numbers.numel()))
    stop = data.draw(st.integers(start, numbers.numel()))
    found = [box.view(numbers) for box in boxes_of(shape, start, stop)]
    assert [number for values in found for number in values.flatten().tolist()] == list(range(start, stop))
    assert len(found) <= 2 * len(shape) - 1
    assert all(values.numel() for values in found)


def whole(parameter, columns, first_row=0, rows=None):
    """A rank's shard of the tensor "w": its rows from ``first_row`` on."""
    shape = (rows or len(parameter), columns)
    return ShardedTensor(
        "w", parameter, parameter.dtype, tuple(parameter.shape), shape, (first_row, 0), None, (0, 1, 3)
    )


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 7), st.data())
def test_ranges_of_a_shard_have_its_offset_in_the_tensor(rows, columns, first_row, data):
    everything = torch.arange(float(20 * columns)).view(20, columns)
    shard = everything[first_row : first_row + rows]
    start = data.draw(st.integers(0, shard.numel() - 1))
    values = shard.flatten()[start : data.draw(st.integers(start + 1, shard.numel()))].double()
    found = shards_of(whole(shard, columns, first_row, 20), "optimizer.state.exp_avg", start, values)
    assert sum(one.data.numel() for one in found) == len(values)
    for one in found:
        assert torch.equal(one.data, Box(one.global_offset, one.local_shape).view(everything).double())
        assert (one.key, one.dtype) == ("optimizer.state.exp_avg.w", torch.float64)
        assert one.replica_id == (0, 1, 0), "no other rank of the DP group has it; those of the TP group do"
        assert one.data.untyped_storage().data_ptr() == values.untyped_storage().data_ptr(), "a view"


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_ranges_of_gate_and_up_projection(rows, columns, data):
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
    found = shards_of(factory, "m", start, parameter.flatten()[start:stop])
    laid_out = torch.full((200, columns), -1.0)
    for one in found:
        Box(one.global_offset, one.local_shape).view(laid_out).copy_(one.data)
    again = torch.cat([laid_out[:rows], laid_out[100 : 100 + rows]]).flatten()
    assert torch.equal(again[start:stop], parameter.flatten()[start:stop])
    assert (laid_out == -1).sum() == laid_out.numel() - (stop - start)
    assert torch.equal(torch.cat([one.data.flatten() for one in found]), parameter.flatten()[start:stop])
