"""Seconds of a training step: a simple model of computation, communication and idle pipeline stages.

- Computation: `model.flops`, and one more forward pass of the layers where they are recomputed, on the stage that has
  most of it, at ``plan.mfu`` of the peak.
- Tensor parallelism: in each layer two sums over TP of the residual stream forward and two backward, each moving
  2 (tp - 1) / tp of it by the links of a rank (a ring); with sequence parallelism as much, and two more gathers
  backward (arXiv 2205.05198, section 4.2.2).
- Context parallelism: keys and values go around, once forward and twice backward (with their gradients).
- Pipeline: activations and their gradients between neighbours; (pp - 1) / virtual micro batches of idle time
  (arXiv 2104.04473, section 2.2).
- Data parallelism: gradients in fp32, and with the distributed optimizer the weights; what Adam reads and writes.

Nothing overlaps, as in our engine: `train.setup` turns overlapped communication off. Ranks are laid out as Megatron
does, TP nearest, then CP, DP, PP; a group that does not fit a node takes the speed between nodes.
"""

from dataclasses import dataclass

from nemo_adapt.config import ClusterConfig, Config, ParallelConfig
from nemo_adapt.model.flops import flops_per_token
from nemo_adapt.phases import trained
from nemo_adapt.plan import model
from nemo_adapt.plan.activations import bytes_of
from nemo_adapt.plan.memory import GRADIENT, MASTER, micro_batches
from nemo_adapt.plan.model import Models

GB = 1e9
TERA = 1e12


@dataclass(frozen=True)
class Step:
    """Seconds of a step, by what they go to."""

    computation: float
    tensor: float
    context: float
    pipeline: float
    """Sending between stages."""
    idle: float
    """Waiting for other stages."""
    data: float
    optimizer: float
    mfu: float
    """What is left of the peak: operations that papers count, over what the hardware could do in the step."""

    @property
    def seconds(self) -> float:
        """All of them."""
        sending = self.tensor + self.context + self.pipeline + self.data
        return self.computation + sending + self.idle + self.optimizer


def peak(cluster: ClusterConfig, precision: str, ranks: int) -> float:
    """Operations a second of one rank; without GPUs a node's cores are shared by its ranks."""
    rate = TERA * (cluster.bf16_tflops if precision == "bf16" else cluster.fp32_tflops)
    return rate if cluster.gpus_per_node else rate * cluster.nodes / ranks


def link(cluster: ClusterConfig, extent: int) -> float:
    """Bytes a second between ranks of a group that lies in ``extent`` neighbouring ranks."""
    inside = extent <= cluster.devices_per_node or not cluster.between_nodes_gb_per_s
    return GB * (cluster.within_node_gb_per_s if inside else cluster.between_nodes_gb_per_s)


def step(models: Models, config: Config) -> Step:
    """A step of the last phase's kind on ``config.cluster``."""
    cluster, parallel, train, shape = config.cluster, config.parallel, config.train, models.target
    size, count = bytes_of(train.precision), micro_batches(config)
    tokens = train.micro_batch * train.seq_length / parallel.cp
    rate = peak(cluster, train.precision, parallel.ranks) * config.plan.mfu
    layers = shape.layers / parallel.pp
    tp, cp = parallel.tp, parallel.cp

    computation = _flops(models, config) * tokens / tp / rate
    stream = size * tokens * shape.hidden
    passes = (4 + 2 * train.recompute) * 2 + 2 * parallel.sequence
    tensor = layers * passes * stream * (tp - 1) / tp / link(cluster, tp)
    ring = (cp - 1) * 2 * size * tokens * max(shape.kv_rows / tp, shape.head_dim)
    context = layers * (3 + train.recompute) * ring / link(cluster, tp * cp)
    sent = (parallel.pp > 1) * parallel.virtual * 2 * stream / (tp if parallel.sequence else 1)
    pipeline = sent / link(cluster, tp * cp * parallel.dp + 1)
    data, optimizer = _update(models, config)
    of_micro_batch = computation + tensor + context + pipeline
    idle = (parallel.pp - 1) / parallel.virtual * of_micro_batch
    seconds = count * of_micro_batch + idle + data + optimizer
    counted = flops_per_token(shape, train.seq_length) * train.global_batch * train.seq_length
    mfu = counted / (seconds * parallel.ranks * peak(cluster, train.precision, parallel.ranks))
    return Step(count * computation, count * tensor, count * context, count * pipeline, idle, data, optimizer, mfu)


def _flops(models: Models, config: Config) -> float:
    """Operations for a token on the pipeline stage that has most to do, over all its TP and CP ranks."""
    shape, train, parallel = models.target, config.train, config.parallel
    whole = flops_per_token(shape, train.seq_length)
    output = 6.0 * shape.hidden * shape.vocab
    layers = (whole - output) / parallel.pp * (4 / 3 if train.recompute else 1)
    return layers + output


def _update(models: Models, config: Config) -> tuple[float, float]:
    """Seconds of a step to sum gradients over the data-parallel ranks, and to update the weights."""
    cluster, parallel, train = config.cluster, config.parallel, config.train
    what = trained(train.phases[-1])
    ours = max(sum(model.trained(model.held(models, config, stage), what)) for stage in _ends(parallel))
    copies, size = parallel.dp * parallel.cp, bytes_of(train.precision)
    moved = GRADIENT + size if train.distributed_optimizer else 2 * GRADIENT
    data = ours * moved * (copies - 1) / copies / link(cluster, parallel.tp * copies)
    # Gradients are set to zero, written, and read for their norm; state is read and written.
    touched = 3 * GRADIENT * ours + (2 * MASTER[train.precision] + size) * ours / (
        copies if train.distributed_optimizer else 1
    )
    share = 1 if cluster.gpus_per_node else min(parallel.ranks, cluster.devices_per_node)
    return data, touched * share / (cluster.memory_gb_per_s * GB)


def _ends(parallel: ParallelConfig) -> set[int]:
    return {0, parallel.pp - 1}
