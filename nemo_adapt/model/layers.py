"""Attention and norms for Megatron's layer spec where Transformer Engine is not there (CPU, or a bare GPU)."""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule


class CoreAttention(MegatronModule):
    """Causal attention by ``scaled_dot_product_attention``: flash kernels on a GPU, fast on a CPU, GQA without copies.

    Takes the arguments of Megatron's ``DotProductAttention`` (megatron/core/transformer/dot_product_attention.py).
    Always causal: a decoder-only model needs no other mask, and none is built.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        **unused: Any,
    ) -> None:
        super().__init__(config=config)
        self.softmax_scale = softmax_scale
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """``query`` [seq, batch, heads, dim], ``key`` and ``value`` with fewer heads -> [seq, batch, heads * dim]."""
        query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=True,
            enable_gqa=key.shape[1] != query.shape[1],
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.softmax_scale,
        )
        return out.permute(2, 0, 1, 3).flatten(2)


class Norm(torch.nn.Module):
    """RMSNorm or LayerNorm, as ``config.normalization`` says, with sequence parallelism and zero-centered weights.

    Megatron's ``WrappedTorchNorm`` refuses both. Under sequence parallelism each TP rank sees part of the sequence, so
    the weights are marked for the gradient sum over TP that Megatron does at the end of a step.
    """

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **unused: Any) -> None:
        super().__init__()
        self.eps = eps
        self.shift = 1.0 if config.layernorm_zero_centered_gamma else 0.0
        self.weight = torch.nn.Parameter(torch.full((hidden_size,), 1.0 - self.shift, dtype=config.params_dtype))
        self.bias = None
        if config.normalization == "LayerNorm":
            self.bias = torch.nn.Parameter(torch.zeros(hidden_size, dtype=config.params_dtype))
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> the same shape and dtype."""
        weight = self.weight + self.shift if self.shift else self.weight
        if self.bias is None:
            return F.rms_norm(hidden, (hidden.shape[-1],), weight, self.eps)
        return F.layer_norm(hidden, (hidden.shape[-1],), weight, self.bias, self.eps)
