"""Floating-point operations of training, as papers count them for model FLOPs utilization (MFU)."""

from nemo_adapt.families.family import Shape


def flops_per_token(shape: Shape, seq_length: int) -> float:
    """Return the operations per token of a training step that trains everything: three times the forward pass.

    Recomputation is not counted (arXiv 2204.02311, appendix B).
    """
    weights, scores, output = forward_flops(shape, seq_length)
    return 3 * (shape.layers * weights + sum(scores) + output)


def forward_flops(shape: Shape, seq_length: int) -> tuple[float, list[float], float]:
    """Return the forward operations per token: of one layer's weights, of each layer's attention, of the output layer.

    Two for each weight in a matrix product with the token (the output layer's included, the input table's not), and
    those of causal attention, which computes half of the scores.
    """
    gated = bool(shape.transformer.get("gated_linear_unit"))
    attention = shape.hidden * (2 * shape.query_rows + 2 * shape.kv_rows)
    weights = attention + (3 if gated else 2) * shape.hidden * shape.ffn
    windows = shape.windows or (0,) * shape.layers
    scores = [2.0 * min(window or seq_length, seq_length) * shape.query_rows for window in windows]
    return 2.0 * weights, scores, 2.0 * shape.hidden * shape.vocab
