"""Attention and norms for Megatron's layer spec without Transformer Engine (on a CPU, or a GPU without it)."""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.tensor_parallel import (
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer import TransformerConfig, TransformerLayer
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch.nn.attention.bias import causal_lower_right

from nemo_adapt import devices, fusion
from nemo_adapt.model import context
from nemo_adapt.model.positions import alibi_slopes, with_alibi


class CoreAttention(MegatronModule):
    """Causal attention by ``scaled_dot_product_attention``: flash kernels on a GPU, fast on a CPU, GQA without copies.

    Takes the arguments of Megatron's ``DotProductAttention`` (megatron/core/transformer/dot_product_attention.py), plus
    ``windows`` and ``cap`` as in ``Shape``; ``alibi`` biases the scores. A mask is built only for a window, for a cap,
    and on a CPU for fewer queries than keys.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        windows: tuple[int, ...] = (),
        cap: float = 0.0,
        alibi: bool = False,
        **unused: Any,
    ) -> None:
        super().__init__(config=config)
        self.softmax_scale = softmax_scale
        self.window = windows[layer_number - 1] if windows else 0  # counted from 1, over all stages
        self.cap, self.alibi = cap, alibi
        self.dropout = config.attention_dropout if attention_dropout is None else attention_dropout

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **unused: Any,
    ) -> torch.Tensor:
        """``query`` [seq, batch, heads, dim], ``key`` and ``value`` with fewer heads -> [seq, batch, heads * dim].

        ``attention_mask`` is not a mask here, but each position's document index [batch, whole seq], on the CPU, if
        documents must not see each other (``train.batches.Boundaries``), else ``None``. Under context parallelism
        ``seq`` is this rank's part.
        """
        if parallel_state.get_context_parallel_world_size() == 1:
            return self._attend_apart(query, key, value, attention_mask)
        key, value = context.gather_keys(key, value)
        parts = context.chunks(len(query))
        return torch.cat(
            [self._attend_apart(query[place], key[:end], value[:end], attention_mask) for place, end in parts]
        )

    def _attend_apart(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: torch.Tensor | None
    ) -> torch.Tensor:
        """Attend within each document of each sample; the queries are at the last of the keys' positions."""
        if documents is None:
            return self._attend(query, key, value)
        with devices.varying_shapes():
            return self._attend_each(query, key, value, documents)

    def _attend_each(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: torch.Tensor
    ) -> torch.Tensor:
        first, samples = len(key) - len(query), []
        tensors = (tensor.split(1, dim=1) for tensor in (query, key, value))
        for row, *sample in zip(documents, *tensors, strict=True):
            sizes = row[: len(key)].unique_consecutive(return_counts=True)[1]
            queries = (sizes.cumsum(0) - first).clamp(min=0).minimum(sizes)  # how many in each document
            counts = queries.tolist(), sizes.tolist(), sizes.tolist()
            parts = zip(*(tensor.split(count) for tensor, count in zip(sample, counts, strict=True)), strict=True)
            samples.append(torch.cat([self._attend(*part) for part in parts if len(part[0])]))
        return torch.cat(samples, dim=1)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend to all keys up to a query's own position, or to those in its window."""
        query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        rows, columns = query.shape[2], key.shape[2]
        fewer, visible = rows < columns, None  # GPU kernels have this mask: causal_lower_right
        if 0 < self.window < columns or self.cap or (fewer and not devices.on_gpu()):
            visible = _visible(rows, columns, self.window, query.device)
        dropout = self.dropout if self.training else 0.0
        width, scale = value.shape[3], self.softmax_scale
        if self.alibi:
            scale = scale or query.shape[3] ** -0.5
            query, key, value = with_alibi(query, key, value, self._slopes(query.shape[1], query.device), scale)
        if self.cap:
            assert visible is not None
            out = _capped_attention(query, key, value, visible, scale, self.cap, dropout)
        else:
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=causal_lower_right(rows, columns) if fewer and visible is None else visible,
                is_causal=visible is None and not fewer,
                enable_gqa=key.shape[1] != query.shape[1],
                dropout_p=dropout,
                scale=scale,
            )
        return out[..., :width].permute(2, 0, 1, 3).flatten(2)

    def _slopes(self, heads: int, device: torch.device) -> torch.Tensor:
        """Return the ALiBi slopes of this TP rank's ``heads``."""
        first = parallel_state.get_tensor_model_parallel_rank() * heads
        return alibi_slopes(self.config.num_attention_heads, device)[first : first + heads]


def _capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    visible: torch.Tensor,
    scale: float | None,
    cap: float,
    dropout: float,
) -> torch.Tensor:
    """Attention in plain operations, as no torch kernel caps scores; memory grows with the square of the sequence."""
    key, value = (tensor.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for tensor in (key, value))
    scores = query @ key.transpose(2, 3) * (scale or query.shape[3] ** -0.5)
    scores = (cap * torch.tanh(scores / cap)).masked_fill(~visible, float("-inf"))
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return F.dropout(weights, dropout) @ value


def _visible(rows: int, columns: int, window: int, device: torch.device) -> torch.Tensor:
    """Return which of ``columns`` positions each of the last ``rows`` sees, [rows, columns].

    It sees itself and those before it, ``window`` in all (0: no limit).
    """
    seen = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    return seen.triu(columns - rows + 1 - window) if window else seen


class Norm(torch.nn.Module):
    """RMSNorm or LayerNorm by ``config.normalization``, with sequence parallelism and zero-centered weights.

    Megatron's ``WrappedTorchNorm`` refuses both. Under sequence parallelism each TP rank sees part of the sequence, so
    the weights are marked for Megatron's gradient sum over TP at the end of a step.
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
        if self.bias is not None:  # no family has zero-centered LayerNorm
            return F.layer_norm(hidden, (hidden.shape[-1],), self.weight, self.bias, self.eps)
        if self.shift:
            norm = fusion.compiled(_zero_centered) if fusion.compiles() else _zero_centered
            return norm(hidden, self.weight, self.eps)
        return F.rms_norm(hidden, (hidden.shape[-1],), self.weight, self.eps)


def _zero_centered(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm of [..., hidden], times 1 + ``weight``: rounded once, at the end, as in transformers' Gemma."""
    return F.rms_norm(hidden.float(), weight.shape, weight.float() + 1.0, eps).to(hidden.dtype)


class WholeNorm(MegatronModule):
    """RMSNorm over all heads of a position together, sharded over TP like the heads (OLMo 2's queries and keys)."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float, kv: bool = False) -> None:
        super().__init__(config=config)
        self.eps, ranks = eps, parallel_state.get_tensor_model_parallel_world_size()
        heads = config.num_query_groups if kv else config.num_attention_heads
        self.size = heads * hidden_size
        self.weight = torch.nn.Parameter(torch.ones(self.size // ranks, dtype=config.params_dtype))
        set_tensor_model_parallel_attributes(self.weight, is_parallel=True, dim=0, stride=1)

    def forward(self, heads: torch.Tensor) -> torch.Tensor:
        """[seq, batch, this rank's heads, head dim] -> the same shape and dtype."""
        wide = heads.flatten(2).float()
        squares = wide.square().sum(dim=-1, keepdim=True)
        squares = copy_to_tensor_model_parallel_region(reduce_from_tensor_model_parallel_region(squares))
        normed = wide * torch.rsqrt(squares / self.size + self.eps) * self.weight.float()
        return normed.to(heads.dtype).view_as(heads)

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple[Any, ...] = (), metadata: dict[str, Any] | None = None
    ) -> Any:
        """Return the weight, sharded over TP in dimension 0."""
        state = self.state_dict(prefix="", keep_vars=True)
        return make_sharded_tensors_for_checkpoint(state, prefix, {"weight": 0}, sharded_offsets)


class ProjectionThenNorm(RowParallelLinear):
    """A projection whose output is normed before it joins the residual stream (Gemma 2, OLMo 2)."""

    def __init__(self, input_size: int, output_size: int, *, config: TransformerConfig, **options: Any) -> None:
        super().__init__(input_size, output_size, config=config, **options)
        self.post_layernorm = Norm(config, output_size, config.layernorm_epsilon)

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, None]:
        """[seq, batch, this rank's input] -> [seq, batch, output], and no bias."""
        out, bias = super().forward(hidden)
        return self.post_layernorm(out if bias is None else out + bias), None


class SideBySideLayer(TransformerLayer):
    """A layer whose attention and MLP read the same normed input; both are added to the residual stream (Phi-2)."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        rotary_pos_emb: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        """[seq, batch, hidden] (this rank's part under sequence parallelism) -> the same shape, and no context."""
        normed = self.input_layernorm(hidden_states)
        attended, attention_bias = self.self_attention(
            normed, attention_mask=attention_mask, rotary_pos_emb=rotary_pos_emb
        )
        computed, mlp_bias = self.mlp(normed)
        return attended + attention_bias + (computed + mlp_bias) + hidden_states, None
