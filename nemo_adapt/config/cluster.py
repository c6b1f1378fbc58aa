"""The machines of a run, and the assumptions of a plan. Clusters are described in ``recipes/cluster/*.yaml``.

Numbers for accelerators are from their data sheets; bandwidths of links are for one direction.
"""

from dataclasses import dataclass


@dataclass
class ClusterConfig:
    name: str = ""
    """Name of the cluster (its file's name); empty: none was chosen."""
    nodes: int = 1
    """Nodes that the run uses."""
    gpus_per_node: int = 0
    """GPUs per node; 0: none, and the ranks share the node's cores."""
    gpu: str = ""
    """Name of the GPU, for display only."""
    memory_gib: float = 0.0
    """Memory of one GPU as its driver reports it, in GiB; without GPUs, memory of a node."""
    bf16_tflops: float = 0.0
    """Peak of one GPU in dense bf16 matrix products, in 10^12 operations per second; without GPUs, of a node."""
    fp32_tflops: float = 0.0
    """The same in fp32 (no TF32, which torch does not use unless told to)."""
    memory_gb_per_s: float = 0.0
    """Bandwidth of the memory of ``memory_gib``, in GB per second."""
    within_node_gb_per_s: float = 0.0
    """Bandwidth from one GPU to the others of its node (NVLink, else PCIe), in GB per second."""
    between_nodes_gb_per_s: float = 0.0
    """Bandwidth from one GPU to other nodes: the node's network bandwidth divided by its GPUs. For several nodes."""
    disk_gb_per_s: float = 0.0
    """Bandwidth of the shared disk, for all nodes together, in GB per second."""
    cpus_per_node: int = 1
    """Cores per node."""
    node_memory_gib: float = 0.0
    """Main memory of a node, in GiB."""

    @property
    def devices(self) -> int:
        """Most ranks on the cluster: its GPUs, or its cores where it has none."""
        return self.nodes * self.devices_per_node

    @property
    def devices_per_node(self) -> int:
        """Most ranks on one node."""
        return self.gpus_per_node or self.cpus_per_node


@dataclass
class PlanConfig:
    mfu: float = 0.55
    """Share of the peak that computation alone reaches; time for communication and idle pipeline stages is added."""
    reserve_gib: float = 3.0
    """Memory of a GPU that training cannot use: CUDA context, NCCL's buffers, gaps between allocations."""
    bytes_per_token: float = 0.0
    """Bytes of text per token; 0: as counted by the run's ``data`` stage, or 4 before it has run."""
    search: bool = False
    """Also search for the fastest layouts that fit the cluster."""
    proposals: int = 5
    """Number of layouts to show."""
