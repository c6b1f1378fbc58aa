"""The base model, its conversion and its layout over ranks, and the export of the adapted model."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ModelConfig:
    path: str = MISSING
    """Hugging Face model folder: config.json, safetensors, tokenizer."""
    config: dict[str, Any] = field(default_factory=dict)
    """The settings of the model's config.json, for planning on a machine without the model folder."""
    tokens: int = 0
    """Vocab size of its tokenizer, for the same purpose; 0: the number of rows of its tables."""
    checkpoint: str = ""
    """A Megatron checkpoint (``torch_dist``, of Megatron-Bridge, Megatron-LM or ours) of the model in ``path``, or a
    folder of them: training starts from its weights. The report still compares with the model in ``path``."""


@dataclass
class ConvertConfig:
    chunk_mib: int = 64
    """Largest piece of a tensor that a process holds at once, in MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core. At most one per output file of 1 GiB."""


@dataclass
class ParallelConfig:
    tp: int = 1
    """Tensor-parallel ranks."""
    pp: int = 1
    """Pipeline-parallel stages."""
    virtual: int = 1
    """Virtual (interleaved) pipeline stages per PP rank: less idle time; needs pp > 1."""
    stage_layers: list[int] = field(default_factory=list)
    """Layers of each pipeline stage, in the model's order: ``pp`` x ``virtual`` numbers. Empty: as equal as possible.
    Fewer on the last stage balance a large output layer (``plan.search`` proposes how many)."""
    cp: int = 1
    """Context-parallel ranks, among which each sequence is split."""
    dp: int = 1
    """Data-parallel copies, if this command starts the ranks; under a launcher they follow from the world size."""
    sequence: bool = False
    """Sequence parallelism (needs tp > 1)."""

    @property
    def ranks(self) -> int:
        """Number of ranks of the layout."""
        return self.tp * self.pp * self.cp * self.dp


@dataclass
class ExportConfig:
    checkpoint: str = "last"
    """Training checkpoint to export: ``last`` or ``best`` (``train.keep_best``)."""
    dir: str = ""
    """Folder for the exported Hugging Face model; empty: ``export/`` of the run."""
    shard_mib: int = 4096
    """Largest safetensors file, in MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core, or one for a small model."""
    pad_vocab_to: int = 1
    """Pads the tables with zero rows to a multiple of this (some inference engines require 64); the generation config
    suppresses the padded rows' ids."""
