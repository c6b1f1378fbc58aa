"""Norms for Megatron's layer spec without Transformer Engine (on a CPU, or a GPU without it), and a parallel layer."""

from functools import partial
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
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

from nemo_adapt.machine import fusion


class Norm(torch.nn.Module):
    """RMSNorm or LayerNorm by ``config.normalization``, with sequence parallelism and zero-centered weights.

    Megatron's ``WrappedTorchNorm`` refuses both. Under sequence parallelism each TP rank sees part of the sequence, so
    the weights are marked for Megatron's gradient sum over TP at the end of a step. ``biased``: a LayerNorm has a bias.
    """

    def __init__(
        self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, biased: bool = True, **unused: Any
    ) -> None:
        super().__init__()
        self.eps, self.centers = eps, config.normalization == "LayerNorm"
        self.shift = 1.0 if config.layernorm_zero_centered_gamma else 0.0
        self.weight = torch.nn.Parameter(torch.full((hidden_size,), 1.0 - self.shift, dtype=config.params_dtype))
        self.bias = None
        if self.centers and biased:
            self.bias = torch.nn.Parameter(torch.zeros(hidden_size, dtype=config.params_dtype))
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., hidden] -> the same shape and dtype."""
        if self.shift:
            norm = fusion.compiled(_zero_centered) if fusion.compiles() else _zero_centered
            return norm(hidden, self.weight, self.bias, self.eps, self.centers)
        if self.centers:
            return F.layer_norm(hidden, (hidden.shape[-1],), self.weight, self.bias, self.eps)
        return F.rms_norm(hidden, (hidden.shape[-1],), self.weight, self.eps)


def _zero_centered(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, centers: bool
) -> torch.Tensor:
    """RMSNorm (LayerNorm: ``centers``) of [..., hidden], times 1 + ``weight``: rounded once, at the end, as in
    transformers' Gemma; its Nemotron also rounds 1 + ``weight``."""
    wide, factor = hidden.float(), weight.float() + 1.0
    if centers:
        offset = None if bias is None else bias.float()
        return F.layer_norm(wide, weight.shape, factor, offset, eps).to(hidden.dtype)
    return F.rms_norm(wide, weight.shape, factor, eps).to(hidden.dtype)


class LaterNorm(Norm):
    """A norm of each head's queries or keys after they are rotated (Hunyuan).

    Megatron calls it before that: it returns them as they are, and ``norm_rotated`` lets attention call ``norm``.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., head dim], as it is."""
        return hidden

    def norm(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., head dim] -> the same shape and dtype."""
        return super().forward(hidden)


def norm_rotated(model: Any) -> None:
    """Norm the queries and keys of a GPTModel with ``LaterNorm`` where its attention begins."""

    def norm(module: torch.nn.Module, arguments: tuple[Any, ...], attention: Any) -> tuple[Any, ...]:
        query, key, *others = arguments
        return attention.q_layernorm.norm(query), attention.k_layernorm.norm(key), *others

    for layer in model.decoder.layers:
        attention = layer.self_attention
        attention.core_attention.register_forward_pre_hook(partial(norm, attention=attention))


class WholeNorm(MegatronModule):
    """RMSNorm over all heads of a position together, sharded over TP like the heads (OLMo 2's queries and keys)."""

    is_flat = True
    """Whether the weights of all heads are one row."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float, kv: bool = False) -> None:
        super().__init__(config=config)
        self.eps, ranks = eps, parallel_state.get_tensor_model_parallel_world_size()
        heads = config.num_query_groups if kv else config.num_attention_heads
        self.size = heads * hidden_size
        weight = torch.ones(heads // ranks, hidden_size, dtype=config.params_dtype)
        self.weight = torch.nn.Parameter(weight.flatten() if self.is_flat else weight)
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


class OwnNorm(WholeNorm):
    """LayerNorm without bias of each head, with weights of its own, sharded over TP like the heads (Command R+)."""

    is_flat = False

    def forward(self, heads: torch.Tensor) -> torch.Tensor:
        """[seq, batch, this rank's heads, head dim] -> the same shape and dtype."""
        normed = F.layer_norm(heads.float(), heads.shape[-1:], eps=self.eps) * self.weight.float()
        return normed.to(heads.dtype)


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
    """A layer whose attention and MLP read the same input; both are added to the residual stream.

    The input has one norm (Phi-2, Cohere: ``pre_mlp_layernorm`` does nothing), or one for each of the two (GPT-NeoX).
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        rotary_pos_emb: torch.Tensor | None = None,
        **unused: Any,
    ) -> tuple[torch.Tensor, None]:
        """[seq, batch, hidden] (this rank's part under sequence parallelism) -> the same shape, and no context."""
        normed = self.input_layernorm(hidden_states)
        of_mlp = normed if isinstance(self.pre_mlp_layernorm, IdentityOp) else self.pre_mlp_layernorm(hidden_states)
        attended, attention_bias = self.self_attention(
            normed, attention_mask=attention_mask, rotary_pos_emb=rotary_pos_emb
        )
        computed, mlp_bias = self.mlp(of_mlp)
        attended = attended if attention_bias is None else attended + attention_bias
        computed = computed if mlp_bias is None else computed + mlp_bias
        return attended + computed + hidden_states, None
