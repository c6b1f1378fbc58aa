"""Cross entropy over logits that are cut over TP has Megatron's numbers, in the memory of the logits."""

import pytest
from ranks import loss_bodies


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("at_once", [1, 1000, 2**20])
@pytest.mark.parametrize("tp", [1, 2])
def test_losses_and_gradients_are_megatron_s_bits(ranks, tp, at_once, precision):
    assert ranks(tp).run(loss_bodies.compare, tp, precision, at_once) == [(True, True, True)] * tp


def test_other_labels_show(ranks):
    """Sabotage: with other labels neither losses nor gradients are the same."""
    assert ranks(2).run(loss_bodies.compare, 2, "fp32", 1000, True) == [(False, False, True)] * 2
