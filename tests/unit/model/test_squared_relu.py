"""Squared ReLU: bit-identical to torch's own operations, and what it saves for the backward pass."""

import pytest
import torch
import torch.nn.functional as F

from nemo_adapt.model.squared_relu import squared_relu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_and_gradients_have_the_bits_of_separate_operations(dtype):
    torch.manual_seed(0)
    theirs = torch.randn(7, 3, 40, dtype=dtype, requires_grad=True)
    ours, upstream = theirs.detach().clone().requires_grad_(), torch.randn(7, 3, 40, dtype=dtype)
    outs = F.relu(theirs).square(), squared_relu(ours)
    for out in outs:
        out.backward(upstream)
    assert torch.equal(*outs) and torch.equal(theirs.grad, ours.grad)


def test_one_tensor_is_saved_for_the_backward_pass():
    kept = []
    wide = torch.randn(5, 2, 16, requires_grad=True) * 1.0
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        squared_relu(wide)
    assert [each.shape for each in kept] == [wide.shape]
