"""Document boundaries equal those that Megatron's data set computes sample by sample."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.datasets.gpt_dataset import _get_ltor_masks_and_position_ids

from nemo_adapt.train.batches import Boundaries

END = 0
BATCHES = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.lists(st.sampled_from([END, 1, 2, 3]), min_size=length, max_size=length), min_size=1, max_size=3
    )
)


@settings(max_examples=100, deadline=None)
@given(rows=BATCHES)
def test_masks_and_positions_equal_megatron_s(rows):
    tokens = torch.tensor(rows)
    found = Boundaries(END, True, True, True).applied({"tokens": tokens})
    for number, row in enumerate(tokens):
        hidden, loss_mask, positions = _get_ltor_masks_and_position_ids(row, END, True, True, True, True)
        assert torch.equal(found["position_ids"][number], positions)
        documents = found["documents"][number]
        assert torch.equal((documents[:, None] == documents[None]).tril()[None], ~hidden)
        assert torch.equal(found["counted"][number], loss_mask.bool())


def test_only_requested_masks_are_made():
    tokens = torch.tensor([[1, END, 2], [END, 1, 2]])
    found = Boundaries(END).applied({"tokens": tokens})
    assert set(found) == {"tokens", "position_ids"} and found["position_ids"].tolist() == [[0, 1, 2]]
