"""Checks that model, layout and training settings fit each other, independent of the machine."""

from collections.abc import Iterable

from nemo_adapt.config import Config, ParallelConfig, TrainConfig
from nemo_adapt.config.phases import lr_factors, phases, trained
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import ALIBI, LEARNED, OUTPUT, OWN, WHOLE, Shape

CHOICES = {"schedule": ("cosine", "linear", "constant", "wsd"), "precision": ("fp32", "bf16")}
"""Allowed values of ``train`` keys that are names."""


def check_layout(shape: Shape, parallel: ParallelConfig) -> None:
    """Raise ``UserError`` when TP does not divide the model's sizes, pipeline stages do not make up its layers, or an
    option needs TP or PP above 1."""
    for what, number in (("attention heads", shape.heads), ("FFN rows", shape.ffn)):
        if number % parallel.tp:
            raise UserError(f"parallel.tp={parallel.tp} does not divide the model's {number} {what}")
    # TP ranks can share a key-value head, unless one norm spans all heads, or each head has one.
    shared = parallel.tp % shape.kv_heads == 0 and shape.qk_norm not in (OWN, WHOLE)
    if shape.kv_heads % parallel.tp and not shared:
        raise UserError(f"parallel.tp={parallel.tp} does not divide the model's {shape.kv_heads} key-value heads")
    if parallel.sequence and parallel.tp == 1:
        raise UserError("parallel.sequence=true needs parallel.tp of at least 2")
    if parallel.virtual > 1 and parallel.pp == 1:
        raise UserError("parallel.virtual needs parallel.pp of at least 2")
    stages, given = parallel.pp * parallel.virtual, parallel.stage_layers
    sizes = f"parallel.pp={parallel.pp}" + (f" x parallel.virtual={parallel.virtual}" if parallel.virtual > 1 else "")
    if stages > shape.layers:
        raise UserError(f"{sizes}: more stages than the model's {shape.layers} layers")
    if given and (len(given) != stages or min(given) < 1 or sum(given) != shape.layers):
        raise UserError(
            f"parallel.stage_layers={given}: {sizes} needs {stages} numbers above 0 whose sum is the model's "
            f"{shape.layers} layers"
        )


def stage_layers(layers: int, parallel: ParallelConfig) -> list[int]:
    """Return the number of layers of each pipeline stage, in the model's order; interleaved, ``virtual`` rounds of
    stages.

    Where ``layers`` do not divide, the first and the last stage get fewest: the first holds the embedding and the
    most activations, the last the output layer.
    """
    if parallel.stage_layers:
        return list(parallel.stage_layers)
    stages = parallel.pp * parallel.virtual
    each, rest = divmod(layers, stages)
    larger = [*range(1, stages - 1), 0][:rest]
    return [each + (stage in larger) for stage in range(stages)]


def engine_fits(shape: Shape, train: TrainConfig, parallel: ParallelConfig) -> bool:
    """Return whether Transformer Engine's layers support everything that the model and its training need.

    They support CP only in bf16 (no backend in its ``get_attention_backend`` takes fp32 there) and without windows (its
    ring of ranks has none). Megatron's configuration has one length of windows for all layers.
    """
    lengths = set(shape.windows) - {0}
    has_windows = len(lengths) <= 1 if parallel.cp == 1 else not lengths
    shares_fp32 = parallel.cp > 1 and train.precision == "fp32"
    return shape.is_plain and has_windows and not train.reset_attention and not shares_fp32


def check_positions(shape: Shape, length: int, key: str = "train.seq_length") -> None:
    """Raise ``UserError`` for a ``length`` of samples or windows, given as ``key``, above the model's table of learned
    positions, or above what our layers cover."""
    learned = shape.rotary is None and shape.positions == LEARNED
    if learned and length > shape.max_positions:
        raise UserError(f"{key}={length}: the model has learned {shape.max_positions} positions")
    if shape.longest_sample and length > shape.longest_sample:
        raise UserError(
            f"{key}={length}: this model's attention beyond {shape.longest_sample} positions is not covered"
        )


def window_size(asked: int, otherwise: int, limits: Iterable[int | None]) -> int:
    """Return the tokens per window of held-out text, in training and in the report: ``asked`` (``evaluate.context``),
    or if that is 0, ``otherwise`` (``train.seq_length``) or the shortest of the models' context lengths (``None``: no
    limit), if shorter."""
    return asked or min([otherwise, *filter(None, limits)])


def context_length(shape: Shape) -> int | None:
    """Return how many tokens the model reads at once; ``None`` if there is no limit (ALiBi)."""
    return None if shape.rotary is None and shape.positions == ALIBI else shape.max_positions


def beyond_trained(shape: Shape, length: int) -> str:
    """Return a remark about samples of ``length`` tokens if they are longer than those that rotary positions were
    trained for, else an empty string. Training works, but the base model is poor at positions that it has never seen.
    """
    if shape.rotary is None or length <= shape.max_positions:
        return ""
    return f"{length:,} tokens, more than the {shape.max_positions:,} of the model's max_position_embeddings"


def check_phases(config: Config, shape: Shape) -> None:
    """Raise ``UserError`` for phases that do not fit the model."""
    for phase in phases(config):
        named = [(f"train={phase.train}", trained(phase))]
        named += [(f"lr_factors={phase.lr_factors}", what) for what, _ in lr_factors(phase)]
        for said, what in named:
            if OUTPUT in what.kinds and shape.tied:
                raise UserError(
                    f"train.phases: {said}: this model's output layer is its input table: name embeddings instead"
                )
            if what.layers and max(what.layers) >= shape.layers:
                raise UserError(f"train.phases: {said}: the model has layers 0 to {shape.layers - 1}")


def check_train(train: TrainConfig, parallel: ParallelConfig) -> None:
    """Raise ``UserError`` for training settings that cannot be run."""
    for key, known in CHOICES.items():
        if getattr(train, key) not in known:
            raise UserError(f"train.{key}={getattr(train, key)!r} is not one of {', '.join(known)}")
    if train.schedule == "wsd" and train.warmup_share + train.decay_share > 1:
        raise UserError(
            f"train.warmup_share={train.warmup_share} and train.decay_share={train.decay_share} are together more than "
            "1: the learning rate would drop at once where they overlap"
        )
    if train.trace and (len(train.trace) != 2 or not 1 <= train.trace[0] <= train.trace[1]):
        raise UserError(f"train.trace={train.trace}: give the first and the last step to record, such as [11,12]")
    if parallel.cp > 1 and train.seq_length % (2 * parallel.cp):
        raise UserError(f"train.seq_length={train.seq_length} is not a multiple of 2 x parallel.cp={parallel.cp}")
    if parallel.sequence and train.seq_length % (parallel.cp * parallel.tp):
        both = f"parallel.cp={parallel.cp} x " if parallel.cp > 1 else ""
        raise UserError(f"train.seq_length={train.seq_length} is not a multiple of {both}parallel.tp={parallel.tp}")
    check_batch(train, parallel, parallel.dp)


def dp_of(parallel: ParallelConfig, ranks: int) -> int:
    """Return the data-parallel size with so many ``ranks``; ``UserError`` unless they are a multiple of the model's."""
    size = parallel.tp * parallel.pp * parallel.cp
    if ranks % size:
        raise UserError(
            f"{ranks} ranks do not divide into parallel.tp={parallel.tp} x parallel.pp={parallel.pp} x "
            f"parallel.cp={parallel.cp}: start a multiple of their product"
        )
    return ranks // size


def check_batch(train: TrainConfig, parallel: ParallelConfig, dp_size: int) -> None:
    """Raise ``UserError`` unless the global batch divides into micro batches on ``dp_size`` data-parallel ranks, and
    these into rounds of interleaved pipeline stages."""
    if train.global_batch % (train.micro_batch * dp_size):
        raise UserError(
            f"train.global_batch={train.global_batch} is not a multiple of train.micro_batch={train.micro_batch} x "
            f"{dp_size} data-parallel ranks"
        )
    micro_batches = train.global_batch // (train.micro_batch * dp_size)
    if parallel.virtual > 1 and micro_batches % parallel.pp:
        raise UserError(
            f"parallel.virtual={parallel.virtual} needs micro batches in multiples of parallel.pp={parallel.pp}: "
            f"there are {micro_batches} in a step"
        )
