"""Floating-point operations of a training step, as papers count them for the model FLOPs utilization (MFU)."""

from nemo_adapt.families.family import Shape


def flops_per_token(shape: Shape, seq_length: int) -> float:
    """Operations of forward and backward pass for one token: three times those of the forward pass.

    Two for each weight that a token meets in a matrix product (the output layer's too, the input table's not), and
    those of causal attention, of which half is computed (arXiv 2204.02311, appendix B; no recomputation).
    """
    gated = bool(shape.transformer.get("gated_linear_unit"))
    attention = shape.hidden * (2 * shape.query_rows + 2 * shape.kv_rows)
    weights = shape.layers * (attention + (3 if gated else 2) * shape.hidden * shape.ffn) + shape.hidden * shape.vocab
    windows = shape.windows or (0,) * shape.layers
    seen = sum(min(window or seq_length, seq_length) for window in windows) / 2
    return 3 * (2 * weights + 4 * seen * shape.query_rows)
