"""Attention for Megatron's layer spec without Transformer Engine (on a CPU, or a GPU without it).

A flash kernel computes plain causal attention. Windows and packed documents have one too on a GPU (``model.flash``).
Elsewhere documents are attended to one by one, and a window in blocks of its own length, so that the work and the masks
grow with the window and not with the sequence.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import MegatronModule

from nemo_adapt import devices
from nemo_adapt.model import context, flash
from nemo_adapt.model.flash import Tensors
from nemo_adapt.model.positions import alibi_slopes, with_alibi


class CoreAttention(MegatronModule):
    """Causal attention with grouped heads (GQA), windows, capped scores and ALiBi.

    Takes the arguments of Megatron's ``DotProductAttention`` (megatron/core/transformer/dot_product_attention.py), plus
    ``windows``, ``scales``, ``magnitudes``, ``rotated`` and ``cap`` as in ``Shape``; ``alibi`` biases the scores. There
    is no dropout.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: Any,
        attention_type: str,
        softmax_scale: float | None = None,
        windows: tuple[int, ...] = (),
        scales: tuple[float | None, ...] = (),
        magnitudes: tuple[float, ...] = (),
        rotated: int = 0,
        cap: float = 0.0,
        alibi: bool = False,
        **unused: Any,
    ) -> None:
        super().__init__(config=config)
        # Layers are counted from 1, over all stages.
        self.softmax_scale = scales[layer_number - 1] if scales else softmax_scale
        self.window = windows[layer_number - 1] if windows else 0
        # The scale of scores has the magnitude of both: without it are the columns that are not rotated.
        magnitude = magnitudes[layer_number - 1] if magnitudes else 1.0
        self.rotated, self.factor_of_others = rotated, magnitude**-2
        self.cap, self.alibi = cap, alibi

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
        if self.factor_of_others != 1.0 and self.rotated < query.shape[3]:
            rotated, others = query[..., : self.rotated], query[..., self.rotated :]
            query = torch.cat([rotated, others * self.factor_of_others], dim=-1)
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
        tensors = (tensor.split(1, dim=1) for tensor in (query, key, value))
        rows = documents[:, : len(key)]
        return torch.cat([self._attend_sample(*each) for each in zip(*tensors, rows, strict=True)], dim=1)

    def _attend_sample(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: torch.Tensor
    ) -> torch.Tensor:
        """Do so for one sample; ``documents`` [seq of the keys]."""
        sizes = documents.unique_consecutive(return_counts=True)[1]
        queries = (sizes.cumsum(0) - (len(key) - len(query))).clamp(min=0).minimum(sizes)  # how many in each document
        seen = queries > 0  # the others are before all queries
        first = int(sizes[~seen].sum())
        key, value, counts = key[first:], value[first:], (queries[seen].tolist(), sizes[seen].tolist())
        if self._has_flash(query, key, value):
            return flash.attend_packed(query, key, value, *counts, self.window, self.softmax_scale)
        parts = zip(query.split(counts[0]), key.split(counts[1]), value.split(counts[1]), strict=True)
        with devices.varying_shapes():
            return torch.cat([self._attend(*part) for part in parts])

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend to all keys up to a query's own position, or to those in its window."""
        if not 0 < self.window < len(key):
            return self._attend_block(query, key, value)
        if self._has_flash(query, key, value):
            return flash.attend(query, key, value, self.window, self.softmax_scale)
        return torch.cat([self._attend_block(*block) for block in _blocks(query, key, value, self.window)])

    def _has_flash(self, *tensors: torch.Tensor) -> bool:
        return not (self.cap or self.alibi) and flash.fits(*tensors)

    def _attend_block(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Do the same with at most one mask. A mask is made only for a window, for a cap, and on a CPU for fewer
        queries than keys."""
        query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        rows, columns = query.shape[2], key.shape[2]
        fewer, bias = rows < columns, None  # GPU kernels have this mask: _lower_right
        if 0 < self.window < columns or self.cap or (fewer and not devices.on_gpu()):
            bias = _bias(rows, columns, self.window, query.dtype, query.device)
        width, scale = value.shape[3], self.softmax_scale
        if self.alibi:
            scale = scale or query.shape[3] ** -0.5
            query, key, value = with_alibi(query, key, value, self._slopes(query.shape[1], query.device), scale)
        if self.cap:
            assert bias is not None
            out = _capped_attention(query, key, value, bias, scale, self.cap)
        else:
            # On a GPU, no fused kernel has grouped heads with a mask, or in fp32: all scores would be stored.
            if query.is_cuda and (bias is not None or query.dtype == torch.float32):
                key, value = _ungrouped(key, query), _ungrouped(value, query)
            out = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=_lower_right(rows, columns) if fewer and bias is None else bias,
                is_causal=bias is None and not fewer,
                enable_gqa=key.shape[1] != query.shape[1],
                scale=scale,
            )
        return out[..., :width].permute(2, 0, 1, 3).flatten(2)

    def _slopes(self, heads: int, device: torch.device) -> torch.Tensor:
        """Return the ALiBi slopes of this TP rank's ``heads``."""
        first = parallel_state.get_tensor_model_parallel_rank() * heads
        return alibi_slopes(self.config.num_attention_heads, device)[first : first + heads]


def _blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, window: int) -> Iterator[Tensors]:
    """Yield ``window`` queries at a time, with the keys and values of their positions and of the ``window`` before.

    The queries are at the last of the keys' positions.
    """
    rows = len(query)
    before = min(window, len(key) - rows)
    sizes = [before, *(min(window, rows - start) for start in range(0, rows, window))]
    keys, values = (tensor[len(tensor) - before - rows :].split(sizes) for tensor in (key, value))
    for number, queries in enumerate(query.split(window)):
        two = slice(number, number + 2)
        yield queries, torch.cat(keys[two]), torch.cat(values[two])


def _lower_right(rows: int, columns: int) -> Any:
    """Return torch's causal mask for the last ``rows`` queries of ``columns`` keys."""
    from torch.nn.attention.bias import causal_lower_right  # imports torch's compiler, which is slow

    return causal_lower_right(rows, columns)


@functools.lru_cache(maxsize=4)  # all layers share them
def _bias(rows: int, columns: int, window: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return what is added to scores [rows, columns] of the last ``rows`` of ``columns`` positions: 0 or -inf.

    A position sees itself and those before it, ``window`` in all (0: no limit).
    """
    unseen = torch.ones(rows, columns, dtype=torch.bool, device=device).triu(columns - rows + 1)
    if window:
        unseen |= torch.ones_like(unseen).tril(columns - rows - window)
    return torch.zeros(rows, columns, dtype=dtype, device=device).masked_fill_(unseen, float("-inf"))


def _ungrouped(heads: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Repeat key or value heads [batch, heads, seq, dim], so that each of the query's has its own."""
    return heads.repeat_interleave(query.shape[1] // heads.shape[1], dim=1)


def _capped_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    scale: float | None,
    cap: float,
) -> torch.Tensor:
    """Attention in plain operations, as no torch kernel caps scores; memory grows with the product of both lengths."""
    scores = query @ _ungrouped(key, query).transpose(2, 3) * (scale or query.shape[3] ** -0.5)
    scores = cap * torch.tanh(scores / cap) + bias
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return weights @ _ungrouped(value, query)
