"""A GPTModel's embedding, residual stream and output layer: what families have and megatron-core has no setting for."""

from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import set_tensor_model_parallel_attributes

from nemo_adapt.families.family import LEARNED, SINUSOIDAL, Shape
from nemo_adapt.model.layers import Norm
from nemo_adapt.model.positions import Sinusoidal


def finish_embedding(model: Any, shape: Shape) -> None:
    """Add the family's positions, scale and norm to the first stage's embedding."""
    embedding, config = model.embedding, model.config
    if embedding.add_position_embedding and shape.positions == LEARNED:
        embedding.position_embeddings.to(config.params_dtype)  # Megatron leaves it float32
    if embedding.add_position_embedding and shape.positions == SINUSOIDAL:
        embedding.position_embeddings = Sinusoidal(shape.hidden, config.params_dtype)
    if shape.embedding_scale != 1.0:
        embedding.word_embeddings.register_forward_hook(_scale(shape.embedding_scale, shape.rounds_scale))
    if shape.embedding_norm:  # after the scatter of sequence parallelism: each TP rank norms its part
        embedding.layernorm = Norm(config, shape.hidden, shape.norm_epsilon)
        embedding.register_forward_hook(lambda module, inputs, output: module.layernorm(output))
    if config.recompute_granularity:
        embedding.register_forward_hook(_begin_gradients(model.decoder))


def scale_residuals(model: Any, shape: Shape) -> None:
    """Multiply what attention and MLP add to the residual stream, with any implementation of the layers."""
    if shape.residual_scale == 1.0:
        return

    def scale(module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        return output[0] * shape.residual_scale, output[1]

    for layer in model.decoder.layers:
        layer.self_attention.linear_proj.register_forward_hook(scale)
        layer.mlp.linear_fc2.register_forward_hook(scale)


def finish_output_layer(model: Any, shape: Shape, vocab: int, padded: int) -> None:
    """Add the bias to the last stage's output layer, scale and cap its logits, and mask those of padded rows.

    The tables have ``padded`` rows, of which the first ``vocab`` are tokens.
    """
    layer, rows = model.output_layer, padded // parallel_state.get_tensor_model_parallel_world_size()
    if shape.output_bias:
        layer.bias = torch.nn.Parameter(torch.zeros(rows, dtype=model.config.params_dtype))
        set_tensor_model_parallel_attributes(layer.bias, is_parallel=True, dim=0, stride=1)
    if shape.logit_scale != 1.0:  # scales the input, which is smaller than the logits
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * shape.logit_scale, *inputs[1:]))
    first_row = parallel_state.get_tensor_model_parallel_rank() * rows
    layer.register_forward_hook(_finish_logits(vocab, padded, first_row, shape.logit_cap))


def _begin_gradients(decoder: torch.nn.Module) -> Any:
    """Return a forward hook of the embedding for phases that train layers but no table.

    A recomputed layer gets gradients only if its input requires them (torch's reentrant checkpointing).
    """

    def begin(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        trains = any(each.requires_grad for each in decoder.parameters())
        if torch.is_grad_enabled() and trains and not output.requires_grad:
            output.requires_grad_()

    return begin


def _scale(factor: float, rounds: bool) -> Any:
    """Return a forward hook of the input table: rows times ``factor``, which Gemma first rounds to their dtype."""

    def scale(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # Filled on the device: a copy from the host would wait for all that the device has still to do.
        return output * (torch.full((), factor, dtype=output.dtype, device=output.device) if rounds else factor)

    return scale


def _finish_logits(vocab: int, padded: int, first_row: int, cap: float) -> Any:
    """Return a forward hook of the output layer: cap logits (0: no cap), set those of padded rows to minus infinity.

    It works on this rank's shard, whose first row is ``first_row``, and on logits gathered over TP. The infinities are
    written outside autograd, which is safe: no operation saves these logits for its backward pass, and the loss has
    zero gradient there.
    """

    def finish(module: torch.nn.Module, inputs: Any, output: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, Any]:
        logits, bias = output
        if cap:
            logits = cap * torch.tanh(logits / cap)
        width = logits.shape[-1]
        real = vocab if width == padded else max(0, vocab - first_row)
        if real < width:
            logits.detach()[..., real:] = float("-inf")
        return logits, bias

    return finish
