"""The machines of a run, and what a plan takes for granted. Recipes of clusters are ``recipes/cluster/*.yaml``.

Facts of accelerators are those of their data sheets; speeds of links are one direction's.
"""

from dataclasses import dataclass


@dataclass
class ClusterConfig:
    name: str = ""
    """Name of the cluster (that of its file); empty: none was chosen."""
    nodes: int = 1
    """Nodes that the run takes."""
    gpus_per_node: int = 0
    """GPUs of a node; 0: there are none, and a node's cores share the work."""
    gpu: str = ""
    """What the GPUs are, for the reader."""
    memory_gib: float = 0.0
    """Memory of one GPU as its driver reports it, GiB; without GPUs, memory of a node."""
    bf16_tflops: float = 0.0
    """Peak of one GPU in dense bf16 matrix products, 10^12 operations a second; without GPUs, of a node."""
    fp32_tflops: float = 0.0
    """The same in fp32 (no TF32, which torch does not use unless told to)."""
    memory_gb_per_s: float = 0.0
    """Bandwidth of that memory."""
    within_node_gb_per_s: float = 0.0
    """From one GPU to the others of its node (NVLink, or PCIe where there is none)."""
    between_nodes_gb_per_s: float = 0.0
    """From one GPU to other nodes: a node's network shared by its GPUs; 0: there is only one node."""
    disk_gb_per_s: float = 0.0
    """Shared disk, all nodes together."""
    cpus_per_node: int = 1
    """Cores of a node."""
    node_memory_gib: float = 0.0
    """Main memory of a node, GiB."""

    @property
    def devices(self) -> int:
        """Ranks that the cluster has room for: its GPUs, or its cores where it has none."""
        return self.nodes * self.devices_per_node

    @property
    def devices_per_node(self) -> int:
        """The same of one node."""
        return self.gpus_per_node or self.cpus_per_node


@dataclass
class PlanConfig:
    mfu: float = 0.55
    """Share of the peak that computation alone reaches; communication and idle pipeline stages are added to it."""
    reserve_gib: float = 3.0
    """Memory of a GPU that training cannot use: CUDA context, NCCL's buffers, gaps between allocations."""
    bytes_per_token: float = 0.0
    """Bytes of text that a token stands for; 0: what the run's ``data`` has counted, or 4."""
    search: bool = False
    """Also propose the fastest layouts that fit the cluster."""
    proposals: int = 5
    """How many."""
