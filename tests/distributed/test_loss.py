"""Cross entropy over logits that are cut over TP has Megatron's numbers, in the memory of the logits."""

import pytest
import torch
from ranks import loss_bodies


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("at_once", [1, 1000, 2**20])
@pytest.mark.parametrize("tp", [1, 2])
def test_losses_and_gradients_are_megatron_s_bits(ranks, tp, at_once, precision):
    assert ranks(tp).run(loss_bodies.compare, tp, precision, at_once) == [(True, True, True)] * tp


def test_other_labels_show(ranks):
    """Sabotage: with other labels neither losses nor gradients are the same."""
    assert ranks(2).run(loss_bodies.compare, 2, "fp32", 1000, True) == [(False, False, True)] * 2


@pytest.mark.parametrize("at_once", [1, 2**20])
@pytest.mark.parametrize("tp", [1, 2])
def test_z_loss_is_the_squared_log_of_the_denominator(ranks, tp, at_once):
    """In the gradients, which are those of torch's own functions, padded rows of minus infinity included."""
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(5, 2, 16, generator=generator) * 4, torch.randint(0, 13, (5, 2), generator=generator)
    logits[..., 13:] = float("-inf")
    whole = logits.clone().requires_grad_()
    losses = torch.nn.functional.cross_entropy(whole.flatten(0, 1), labels.flatten(), reduction="none").view(5, 2)
    (losses.mean() + 0.3 * whole.logsumexp(-1).square().mean()).backward()
    found = ranks(tp).run(loss_bodies.with_z_loss, tp, logits, labels, 0.3, at_once)
    for answer in found:
        torch.testing.assert_close(answer[0], losses.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([answer[1] for answer in found], -1), whole.grad, rtol=1e-5, atol=1e-6)
