"""Cross entropy of logits sharded over TP equals Megatron's, and needs no memory but that of the logits."""

import pytest
import torch
from ranks import loss_bodies


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("at_once", [1, 1000, 2**20])
@pytest.mark.parametrize("tp", [1, 2])
def test_cross_entropy_equals_megatrons_and_reuses_the_logits_memory(ranks, tp, at_once, precision):
    assert ranks(tp).run(loss_bodies.compare, tp, precision, at_once) == [(True, True, True)] * tp


@pytest.mark.parametrize("at_once", [1, 100_000, loss_bodies.COMPILED])
@pytest.mark.parametrize("z_loss", [0.0, 1e-3, 0.3])
@pytest.mark.parametrize("tp", [1, 2])
def test_bf16_gradients_are_as_accurate_as_megatrons(ranks, tp, z_loss, at_once):
    """On average; and each has only the error of rounding to bf16, but for errors of a last bit in fp32."""
    for beyond, off, theirs in ranks(tp).run(loss_bodies.errors, tp, z_loss, at_once):
        assert beyond < 2**-20
        assert 0.0 < off < 1.001 * theirs


@pytest.mark.parametrize("vocab", [13, 5])
@pytest.mark.parametrize("cap", [0.0, 2.0])
@pytest.mark.parametrize("tp", [1, 2])
def test_padded_rows_do_not_affect_the_loss(ranks, tp, cap, vocab):
    """Of 16 rows 13 are tokens, or 5: then the second of two ranks has only padded rows.

    Results equal torch's without those rows, whose gradients are exactly zero.
    """
    generator = torch.Generator().manual_seed(vocab)
    table, inputs = torch.randn(16, 4, generator=generator), torch.randn(6, 2, 4, generator=generator)
    labels = torch.randint(0, vocab, (6, 2), generator=generator)
    real, leaf = table[:vocab].clone().requires_grad_(), inputs.clone().requires_grad_()
    logits = leaf @ real.t()
    logits = cap * torch.tanh(logits / cap) if cap else logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(6, 2)
    losses.mean().backward()
    found = ranks(tp).run(loss_bodies.of_padded_rows, tp, table, vocab, cap, inputs, labels)
    close = {"rtol": 1e-4, "atol": 1e-5}
    for each, of_inputs, _, gathered, stays in found:
        torch.testing.assert_close(each, losses.detach(), **close)
        torch.testing.assert_close(of_inputs, leaf.grad, **close)
        torch.testing.assert_close(gathered[..., :vocab], logits.detach(), **close)
        assert gathered[..., vocab:].eq(float("-inf")).all() and stays
    of_table = torch.cat([answer[2] for answer in found])
    torch.testing.assert_close(of_table[:vocab], real.grad, **close)
    assert not of_table[vocab:].any()


def test_check_detects_other_labels(ranks):
    """Negative control: with other labels both losses and gradients differ."""
    assert ranks(2).run(loss_bodies.compare, 2, "fp32", 1000, True) == [(False, False, True)] * 2


@pytest.mark.parametrize("at_once", [1, 2**20, loss_bodies.COMPILED])
@pytest.mark.parametrize("tp", [1, 2])
def test_z_loss_adds_the_gradient_of_the_squared_log_denominator(ranks, tp, at_once):
    """Gradients equal those of torch's own functions, with padded logits of minus infinity; losses exclude it."""
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
