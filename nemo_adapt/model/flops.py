"""Floating-point operations of a training step, as papers count them for the model FLOPs utilization (MFU)."""

from nemo_adapt.families.family import Shape


def flops_per_token(shape: Shape, seq_length: int) -> float:
    """Operations of forward and backward pass for one token, everything trained: three times those of the forward pass.

    No recomputation (arXiv 2204.02311, appendix B).
    """
    weights, scores, output = forward_flops(shape, seq_length)
    return 3 * (shape.layers * weights + sum(scores) + output)


def forward_flops(shape: Shape, seq_length: int) -> tuple[float, list[float], float]:
    """Operations of the forward pass for one token: a layer's weights, the attention of each layer, the output layer.

    Two for each weight that a token meets in a matrix product (the output layer's too, the input table's not), and
    those of causal attention, of which half is computed.
    """
    gated = bool(shape.transformer.get("gated_linear_unit"))
    attention = shape.hidden * (2 * shape.query_rows + 2 * shape.kv_rows)
    weights = attention + (3 if gated else 2) * shape.hidden * shape.ffn
    windows = shape.windows or (0,) * shape.layers
    scores = [2.0 * min(window or seq_length, seq_length) * shape.query_rows for window in windows]
    return 2.0 * weights, scores, 2.0 * shape.hidden * shape.vocab
