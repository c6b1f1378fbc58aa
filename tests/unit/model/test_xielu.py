"""xIELU: transformers' results and gradients, and what is saved for the backward pass."""

import pytest
import torch
from megatron.core.transformer import TransformerConfig
from transformers.activations import XIELUActivation

from nemo_adapt.model import xielu

EPS = -0.05
"""Larger than the models' own, so that numbers lie between it and zero."""


@pytest.fixture
def pair(monkeypatch):
    """transformers' activation, and ours with the same numbers, on one rank."""
    monkeypatch.setattr(xielu, "copy_to_tensor_model_parallel_region", lambda slopes: slopes)
    theirs = XIELUActivation(alpha_p_init=0.7, alpha_n_init=1.1, beta=0.4, eps=EPS, dtype=torch.float32)
    ours = xielu.Xielu(TransformerConfig(num_layers=1, hidden_size=8, num_attention_heads=2))
    missing = ours.load_state_dict({name: each.reshape(1) for name, each in theirs.state_dict().items()})
    assert not missing.missing_keys and not missing.unexpected_keys
    return theirs, ours


@pytest.mark.parametrize("at_once", [1 << 16, 100])
def test_results_and_gradients_are_those_of_transformers(pair, monkeypatch, at_once):
    monkeypatch.setitem(xielu.AT_ONCE, False, at_once)
    torch.manual_seed(0)
    wide = torch.cat((torch.randn(7, 3, 40), 0.1 * torch.randn(7, 3, 40)))
    assert ((wide > EPS) & (wide < 0)).any() and (wide < EPS).any()
    upstream, found = torch.randn_like(wide), []
    for activation in pair:
        given = wide.clone().requires_grad_()
        out = activation(given)
        out.backward(upstream)
        numbers = [activation.alpha_p.grad.view(()), activation.alpha_n.grad.view(())]
        found.append([out.detach(), given.grad, *numbers])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_one_large_tensor_is_saved_for_the_backward_pass(pair):
    kept = []
    wide = torch.randn(5, 2, 16, requires_grad=True) * 1.0
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        pair[1](wide)
    assert [each.shape for each in kept if each.numel() > 2] == [wide.shape]
