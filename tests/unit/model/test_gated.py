"""The gated MLP's activation: bit-identical to torch's own operations, and what it saves for the backward pass."""

import pytest
import torch
import torch.nn.functional as F
from helpers.plans_of_models import plan_config, settings

from nemo_adapt import devices, families
from nemo_adapt.config import ParallelConfig
from nemo_adapt.machine import fusion
from nemo_adapt.model.build import ACTIVATIONS, transformer_config
from nemo_adapt.model.gated import KERNELS, _Gated


def both(name, dtype):
    """Results and gradients of torch's operations one by one, and of ours."""
    torch.manual_seed(0)
    wide = torch.randn(7, 3, 2 * 40, dtype=dtype)
    upstream = torch.randn(7, 3, 40, dtype=dtype)
    theirs, ours = wide.clone().requires_grad_(), wide.clone().requires_grad_()
    gate, up = theirs.chunk(2, dim=-1)
    outs = ACTIVATIONS[name](gate) * up, _Gated.apply(ours, name)
    for out in outs:
        out.backward(upstream)
    return outs, (theirs.grad, ours.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", KERNELS)
def test_results_and_gradients_have_the_bits_of_separate_operations(name, dtype):
    outs, gradients = both(name, dtype)
    assert torch.equal(*outs) and torch.equal(*gradients)


@pytest.mark.parametrize("name", KERNELS)
def test_functions_that_are_compiled_on_a_gpu_give_the_same_results(monkeypatch, name):
    monkeypatch.setattr(fusion, "compiles", lambda: True)
    monkeypatch.setattr(fusion, "compiled", lambda function: function)
    outs, gradients = both(name, torch.float32)
    for theirs, ours in (outs, gradients):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_a_wrong_gradient_kernel_is_detected(monkeypatch):
    """Negative control: the GELU with tanh has another gradient than that without."""
    monkeypatch.setitem(KERNELS, "gelu", (KERNELS["gelu"][0], KERNELS["gelu_tanh"][1]))
    outs, gradients = both("gelu", torch.float32)
    assert torch.equal(*outs) and not torch.equal(*gradients)


def test_only_the_input_is_saved_for_the_backward_pass():
    kept = []
    wide = torch.randn(5, 2, 16, requires_grad=True) * 1.0
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        _Gated.apply(wide, "silu")
        assert [each.data_ptr() for each in kept] == [wide.data_ptr()]
        gate, up = wide.chunk(2, dim=-1)
        F.silu(gate) * up
    assert len(kept) > 2


@pytest.mark.parametrize(
    ("name", "activation"), [("llama", F.silu), ("gemma", F.gelu), ("gpt2", None), ("nemotron", None), ("gemma2", None)]
)
def test_megatron_s_fused_activation_is_used_only_with_transformer_engine(monkeypatch, name, activation):
    hf_config = settings(name)
    shape = families.of(hf_config).shape(hf_config)
    plain = transformer_config(shape, ParallelConfig(), plan_config().train)
    assert not plain.bias_activation_fusion and plain.activation_func == ACTIVATIONS[shape.activation]
    monkeypatch.setattr(devices, "has_transformer_engine", lambda: True)
    found = transformer_config(shape, ParallelConfig(), plan_config().train)
    assert found.bias_activation_fusion == (activation is not None)
    assert found.activation_func == (activation or ACTIVATIONS[shape.activation])
