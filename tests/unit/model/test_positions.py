"""ALiBi and sinusoidal positions against transformers' own, and against exact arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.bloom.modeling_bloom import _get_alibi_slopes
from transformers.models.xglm.modeling_xglm import XGLMSinusoidalPositionalEmbedding

from nemo_adapt.model import flash
from nemo_adapt.model.positions import Sinusoidal, alibi_slopes, with_alibi

CPU = torch.device("cpu")


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12, 16, 20, 32, 71, 112])
def test_alibi_slopes_equal_transformers(heads):
    torch.testing.assert_close(alibi_slopes(heads, CPU), _get_alibi_slopes(heads, CPU), rtol=2e-6, atol=0)


def test_what_all_layers_need_on_the_device_is_copied_there_once():
    """A copy from the host would wait in each layer for all that a GPU has still to do."""
    assert alibi_slopes(12, CPU) is alibi_slopes(12, CPU)
    assert flash._ends((3, 2), CPU) is flash._ends((3, 2), CPU)
    assert flash._ends((3, 2), CPU).tolist() == [0, 3, 5] and flash._ends((2, 3), CPU).tolist() == [0, 2, 5]


def attention(query, key, value, slopes):
    """Attention step by step, as in BLOOM: the bias is rounded to the dtype of the queries, softmax is float32."""
    length, scale = query.shape[2], query.shape[3] ** -0.5
    bias = (slopes[:, None, None] * torch.arange(length)).to(query.dtype)
    scores = query @ key.transpose(2, 3) * scale + bias
    scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), float("-inf"))
    kind = torch.float32 if query.dtype == torch.bfloat16 else query.dtype
    return F.softmax(scores, dim=-1, dtype=kind).to(query.dtype) @ value


def ours(query, key, value, slopes):
    scale = query.shape[3] ** -0.5
    more = with_alibi(query, key, value, slopes, scale)
    assert all(each.shape[3] % 8 == 0 for each in more)
    return F.scaled_dot_product_attention(*more, is_causal=True, scale=scale)[..., : value.shape[3]]


@pytest.mark.parametrize(("dtype", "limit", "share"), [(torch.float32, 1e-4, 2.0), (torch.bfloat16, 2e-2, 0.1)])
@pytest.mark.parametrize("dim", [20, 64])
def test_alibi_over_long_sequences_is_as_exact_as_transformers(dtype, limit, share, dim):
    """Six heads, 1,024 positions. In bf16 transformers rounds biases of hundreds to whole numbers: our error must be
    below a tenth of its error."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, 6, 1024, dim, generator=generator).to(dtype) for _ in range(3)]
    slopes = alibi_slopes(6, CPU)
    exact = attention(*(part.double() for part in parts), slopes.double())
    error, theirs = ((made(*parts, slopes).double() - exact).abs().max() for made in (ours, attention))
    assert error < limit and error < share * theirs


def test_gradients_of_queries_keys_and_values_are_exact():
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, 4, 40, 16, generator=generator, dtype=torch.float64) for _ in range(3)]
    weights, slopes = torch.randn(1, 4, 40, 16, generator=generator, dtype=torch.float64), alibi_slopes(4, CPU).double()
    found = []
    for made in (ours, attention):
        leaves = [part.clone().requires_grad_() for part in parts]
        (made(*leaves, slopes) * weights).sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sinusoidal_positions_equal_transformers(dtype):
    table = XGLMSinusoidalPositionalEmbedding(2048, 64, padding_idx=1)
    positions = torch.tensor([[0, 1, 2, 2047], [5, 5, 0, 700]])
    assert torch.equal(Sinusoidal(64, dtype)(positions), table(positions).to(dtype))
    beyond = torch.tensor([[4000]])
    assert torch.isfinite(Sinusoidal(64, dtype)(beyond)).all()
