"""Floating-point operations of training, as papers count them for model FLOPs utilization (MFU)."""

from nemo_adapt.config.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained
from nemo_adapt.families.family import OUTPUT, Shape

EVERYTHING = Trained(frozenset({ALL}), frozenset())


def flops_per_token(
    shape: Shape, seq_length: int, what: Trained = EVERYTHING, new: float = 1.0, recompute: bool = False
) -> float:
    """Return the operations per token of a step of a phase that trains ``what``, forward and backward; for everything
    that is three times the forward pass. ``new``: the share of the tables' rows that are new.

    The MFU counts no recomputation (arXiv 2204.02311, appendix B).
    """
    layers, output = trained_flops(shape, new, seq_length, what, recompute)
    return sum(layers) + output


def trained_flops(
    shape: Shape, new: float, seq_length: int, what: Trained, recompute: bool
) -> tuple[list[float], float]:
    """Return the operations per token of each layer, and of the output layer, in a phase that trains ``what``; with
    ``recompute`` also those of layers that are computed again. ``new``: the share of the tables' rows that are new.

    In the backward pass, a matrix product costs one forward pass for its input's gradient and one for its weight's.
    Attention has no weights: its backward pass costs two forward passes.
    """
    weights, scores, output = forward_flops(shape, seq_length)
    back = backward_layers(shape, what, recompute)
    layers = []
    for number in range(shape.layers):
        of_weights = of_scores = 1  # in forward passes
        if number in back:
            of_weights, of_scores = of_weights + 1, of_scores + 2
            if recompute:
                of_weights, of_scores = of_weights + 1, of_scores + 1
        if ALL in what.kinds or number in what.layers:
            of_weights += 1
        layers.append(weights * of_weights + scores[number] * of_scores)
    whole = bool(what.kinds & {ALL, EMBEDDINGS, OUTPUT})
    own = 1.0 if whole else new if NEW_ROWS in what.kinds else 0.0
    inputs = 1 if back or whole else 0  # with the weight's gradient comes the input's
    return layers, output * (1 + inputs + own)


def backward_layers(shape: Shape, what: Trained, recompute: bool) -> range:
    """Return the layers with a backward pass; recomputation needs it down to the embedding if any layer is trained."""
    if what.kinds & {ALL, EMBEDDINGS, NEW_ROWS} or (recompute and what.layers):
        return range(shape.layers)
    return range(min(what.layers, default=shape.layers), shape.layers)


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
