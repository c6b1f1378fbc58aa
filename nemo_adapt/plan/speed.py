"""Seconds of a training step: a simple model of computation, communication and idle pipeline stages.

- Computation: `model.flops` on the stage that has the most, plus one more forward pass of the layers with
  recomputation, at ``plan.mfu`` of the peak. Parameters that a phase does not train need no weight gradient, and layers
  below everything that is trained need no backward pass.
- Tensor parallelism: per layer two all-reduces of the residual stream forward and two backward, each moving
  2 (tp - 1) / tp of it over a rank's links (a ring); the same volume with sequence parallelism, and two more
  all-gathers backward (arXiv 2205.05198, section 4.2.2).
- Context parallelism: keys and values go around the ring once forward and twice backward (with their gradients); if
  ranks all-gather them instead, only the gradients move backward.
- Pipeline: activations and their gradients between neighbouring stages; idle time of (pp - 1) / virtual micro batches
  (arXiv 2104.04473, section 2.2).
- Data parallelism: gradients in fp32, overlapped with the backward pass of the last micro batch, and with the
  distributed optimizer the weights, overlapped with the forward pass of the first (`train.setup`; no overlap for new
  rows); and the memory traffic of Adam.

Nothing else overlaps. (Interleaved stages overlap sending with computation, but it is counted in full: it is small.)
Ranks are ordered as in Megatron: TP innermost, then CP, DP, PP; a group that does not fit in a node has the bandwidth
between nodes.
"""

from dataclasses import dataclass, replace

from nemo_adapt.config import ClusterConfig, Config, PhaseConfig
from nemo_adapt.config.layout import stage_layers
from nemo_adapt.config.phases import ALL, NEW_ROWS, Trained, trained
from nemo_adapt.model.flops import backward_layers, flops_per_token, forward_flops, trained_flops
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import Layer, bytes_of
from nemo_adapt.plan.memory import GRADIENT, MASTER, micro_batches
from nemo_adapt.plan.model import Models

GB = 1e9
TERA = 1e12


@dataclass(frozen=True)
class Step:
    """Seconds of a step, by part."""

    computation: float
    tensor: float
    context: float
    pipeline: float
    """Communication between stages."""
    idle: float
    """Waiting for other stages (pipeline bubble)."""
    data: float
    """Communication between data-parallel ranks that is not overlapped."""
    optimizer: float
    mfu: float
    """Model FLOPs utilization: the model's operations without recomputation, over the peak of the hardware."""

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        sending = self.tensor + self.context + self.pipeline + self.data
        return self.computation + sending + self.idle + self.optimizer


def peak(cluster: ClusterConfig, precision: str, ranks: int) -> float:
    """Return the peak operations per second of one rank; without GPUs, its share of the nodes' peak."""
    rate = TERA * (cluster.bf16_tflops if precision == "bf16" else cluster.fp32_tflops)
    return rate if cluster.gpus_per_node else rate * cluster.nodes / ranks


def link(cluster: ClusterConfig, extent: int) -> float:
    """Return the bytes per second between ranks of a group that spans ``extent`` consecutive ranks."""
    inside = extent <= cluster.devices_per_node or not cluster.between_nodes_gb_per_s
    return GB * (cluster.within_node_gb_per_s if inside else cluster.between_nodes_gb_per_s)


def step(models: Models, config: Config, phase: PhaseConfig) -> Step:
    """Return the times of a step of ``phase`` on ``config.cluster``."""
    cluster, parallel, train, shape = config.cluster, config.parallel, config.train, models.target
    size, count, what = bytes_of(train.precision), micro_batches(config), trained(phase)
    tokens = train.micro_batch * train.seq_length / parallel.cp
    rate = peak(cluster, train.precision, parallel.ranks) * config.plan.mfu
    layers = max(len(model.layers_of(stage, shape.layers, parallel)) for stage in range(parallel.pp))
    tp, cp = parallel.tp, parallel.cp
    back = len(backward_layers(shape, what, train.recompute)) / shape.layers  # the share of layers with a backward pass

    computation = _flops(models, config, what) * tokens / tp / rate
    stream = size * tokens * shape.hidden
    own = 1.0 if ALL in what.kinds else len(what.layers) / shape.layers
    passes = 4 + back * (8 if train.recompute else 4) + (2 * own if parallel.sequence else 0)
    tensor = layers * passes * stream * (tp - 1) / tp / link(cluster, tp)
    ring = (cp - 1) * 2 * size * tokens * max(shape.kv_rows / tp, shape.head_dim)
    gathers = Layer(shape, parallel, train, cluster.gpus_per_node > 0).gathers
    rounds = (1 if gathers else 2) + (1 if train.recompute else 0)  # backward; if gathered, with gradients alone
    context = layers * (1 + back * rounds) * ring / link(cluster, tp * cp)
    pipeline = 0.0
    if parallel.pp > 1:
        sent = parallel.virtual * (2 if back else 1) * stream / (tp if parallel.sequence else 1)
        pipeline = sent / link(cluster, tp * cp * parallel.dp + 1)
    gradients, weights, optimizer = _update(models, config, what)
    share = _share_back(models, train.seq_length, what, train.recompute)
    beside = 0.0 if NEW_ROWS in what.kinds else computation
    data = max(0.0, gradients - share * beside) + max(0.0, weights - (1 - share) * beside)
    of_micro_batch = computation + tensor + context + pipeline
    idle = (parallel.pp - 1) / parallel.virtual * of_micro_batch
    seconds = count * of_micro_batch + idle + data + optimizer
    counted = operations(models, train.seq_length, what) * train.global_batch * train.seq_length
    mfu = counted / (seconds * parallel.ranks * peak(cluster, train.precision, parallel.ranks))
    return Step(count * computation, count * tensor, count * context, count * pipeline, idle, data, optimizer, mfu)


def operations(models: Models, seq_length: int, what: Trained, recompute: bool = False) -> float:
    """Return the operations per token of the whole model in a phase, forward and backward."""
    new = (models.target.vocab - models.first_new) / models.target.vocab
    return flops_per_token(models.target, seq_length, what, new, recompute)


def _share_back(models: Models, seq_length: int, what: Trained, recompute: bool) -> float:
    """Return the share of a phase's operations that is in the backward pass."""
    weights, scores, output = forward_flops(models.target, seq_length)
    forward = models.target.layers * weights + sum(scores) + output
    return 1 - forward / operations(models, seq_length, what, recompute)


def balanced(models: Models, config: Config, what: Trained) -> list[int]:
    """Return the layers of each pipeline stage (not interleaved) with which the busiest has least to compute.

    The last stage also has the output layer, which for a large vocab is worth several layers; the others share equally.
    """
    layers, parallel = models.target.layers, config.parallel
    others = replace(parallel, pp=parallel.pp - 1, stage_layers=[])
    splits = [[*stage_layers(layers - last, others), last] for last in range(layers // parallel.pp, 0, -1)]
    return min(
        splits, key=lambda split: _flops(models, replace(config, parallel=replace(parallel, stage_layers=split)), what)
    )


def _flops(models: Models, config: Config, what: Trained) -> float:
    """Return the operations per token of the pipeline stage that has the most, summed over its TP and CP ranks."""
    shape, train, parallel = models.target, config.train, config.parallel
    last = model.rank_tensors(models, config, parallel.pp - 1)
    new = max(each.new / each.elements for each in last if each.table)  # of the TP rank with the most new rows
    layers, output = trained_flops(shape, new, train.seq_length, what, train.recompute)
    stages = [
        sum(layers[each] for each in model.layers_of(stage, shape.layers, parallel)) for stage in range(parallel.pp)
    ]
    stages[-1] += output
    return max(stages)


def _update(models: Models, config: Config, what: Trained) -> tuple[float, float, float]:
    """Return the seconds per step to reduce gradients over data-parallel ranks, gather weights, and update them."""
    cluster, parallel, train = config.cluster, config.parallel, config.train
    ours = max(sum(model.trained(model.rank_tensors(models, config, stage), what)) for stage in range(parallel.pp))
    copies, size = parallel.dp * parallel.cp, bytes_of(train.precision)
    moved = (GRADIENT, size) if train.distributed_optimizer else (2 * GRADIENT, 0)
    sends = ours * (copies - 1) / copies / link(cluster, parallel.tp * copies)
    # Memory traffic: gradients are zeroed, written, and read for their norm; optimizer state is read and written.
    touched = 3 * GRADIENT * ours + (2 * MASTER[train.precision] + size) * ours / (
        copies if train.distributed_optimizer else 1
    )
    share = 1 if cluster.gpus_per_node else min(parallel.ranks, cluster.devices_per_node)
    gradients, weights = (bytes_of_each * sends for bytes_of_each in moved)
    return gradients, weights, touched * share / (cluster.memory_gb_per_s * GB)
