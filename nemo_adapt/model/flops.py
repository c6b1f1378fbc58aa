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
    four in each of the query's rows for each key that it sees: its score, and its share of the result.
    """
    gated = bool(shape.transformer.get("gated_linear_unit"))
    attention = shape.hidden * (2 * shape.query_rows + 2 * shape.kv_rows)
    weights = attention + (3 if gated else 2) * shape.hidden * shape.ffn
    windows = shape.windows or (0,) * shape.layers
    scores = [4.0 * _keys_seen(window, seq_length) * shape.query_rows for window in windows]
    return 2.0 * weights, scores, 2.0 * shape.hidden * shape.vocab


def _keys_seen(window: int, seq_length: int) -> float:
    """Return the keys that a token of a sequence sees on average: half of all, or those of a ``window``, which is full
    except at the beginning."""
    if not 0 < window < seq_length:
        return seq_length / 2
    return window * (1 - window / seq_length / 2)
