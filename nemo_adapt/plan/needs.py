"""Whether a training fits its cluster: the number of ranks, and the memory of the fullest one."""

from dataclasses import replace

from nemo_adapt.config import ClusterConfig, Config
from nemo_adapt.config.phases import phases
from nemo_adapt.errors import UserError
from nemo_adapt.plan.memory import GIB, Memory, fullest, of_stages
from nemo_adapt.plan.model import Models

FACTS = ("memory_gib", "bf16_tflops", "fp32_tflops", "memory_gb_per_s", "within_node_gb_per_s", "disk_gb_per_s")


def is_chosen(cluster: ClusterConfig) -> bool:
    """Return whether a cluster is configured; ``UserError`` if its description is incomplete."""
    said = {name: getattr(cluster, name) for name in FACTS}
    if not any(said.values()):
        return False
    if cluster.nodes > 1:
        said["between_nodes_gb_per_s"] = cluster.between_nodes_gb_per_s
    wrong = [f"cluster.{name}={value}" for name, value in said.items() if value <= 0]
    if cluster.devices < 1 or cluster.nodes < 1:
        wrong.append(f"cluster.nodes={cluster.nodes} x {cluster.devices_per_node} devices")
    if wrong:
        raise UserError(
            f"{', '.join(wrong)} must be above 0: choose a cluster with cluster=NAME, or describe it completely"
        )
    return True


def with_dp_of_cluster(config: Config) -> Config:
    """Return the configuration with ``parallel.dp`` set to fill the cluster's GPUs.

    Without GPUs ``parallel.dp`` stays: more ranks on the same cores are not faster. ``UserError`` if the cluster is too
    small, or the model's ranks do not divide its GPUs.
    """
    cluster, parallel = config.cluster, config.parallel
    if not is_chosen(cluster):
        return config
    product = " x ".join(f"{name}={getattr(parallel, name)}" for name in ("tp", "pp", "cp", "dp"))
    if parallel.ranks > cluster.devices:
        what = "GPUs" if cluster.gpus_per_node else "cores"
        raise UserError(
            f"parallel: {product} are {parallel.ranks} ranks, and the cluster {cluster.name or 'described'} has "
            f"{cluster.devices} {what}: take more nodes (cluster.nodes), or fewer ranks"
        )
    if not cluster.gpus_per_node:
        return config
    model = parallel.ranks // parallel.dp
    if cluster.devices % model:
        raise UserError(
            f"parallel: a model of tp={parallel.tp} x pp={parallel.pp} x cp={parallel.cp} = {model} ranks does not "
            f"divide the {cluster.devices} GPUs of {cluster.name or 'the cluster'}"
        )
    return replace(config, parallel=replace(parallel, dp=cluster.devices // model))


def needed(models: Models, config: Config) -> list[Memory]:
    """Return the memory of a rank of each pipeline stage, in the phase that needs the most."""
    on_gpu = bool(config.cluster.gpus_per_node) or not is_chosen(config.cluster)
    different = {phase.train: phase for phase in phases(config)}.values()
    return max((of_stages(models, config, phase, on_gpu) for phase in different), key=lambda each: fullest(each).total)


def room(config: Config) -> float:
    """Return the bytes available to a rank: a GPU's memory, or its share of a node's, less the reserve."""
    cluster = config.cluster
    if cluster.gpus_per_node:
        return (cluster.memory_gib - config.plan.reserve_gib) * GIB
    ranks = -(-config.parallel.ranks // cluster.nodes)
    return (cluster.memory_gib - config.plan.reserve_gib) * GIB / ranks
