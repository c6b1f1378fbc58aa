"""The base model, how it is converted and laid over ranks, and where the adapted one goes."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ModelConfig:
    path: str = MISSING
    """Hugging Face model folder: config.json, safetensors, tokenizer."""
    config: dict[str, Any] = field(default_factory=dict)
    """What config.json says of the model, for a plan on a machine where the folder is not."""
    tokens: int = 0
    """Ids of its tokenizer, for the same; 0: as many as its tables have rows."""
    checkpoint: str = ""
    """A Megatron checkpoint (``torch_dist``, of Megatron-Bridge, Megatron-LM or ours) of the model in ``path``, or a
    folder of them: training starts from its weights. What the report compares with is still the model in ``path``."""


@dataclass
class ConvertConfig:
    chunk_mib: int = 64
    """Largest piece of a tensor held at once by a process, MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core. No more than there are files of a GiB."""


@dataclass
class ParallelConfig:
    tp: int = 1
    """Tensor-parallel ranks."""
    pp: int = 1
    """Pipeline-parallel stages."""
    virtual: int = 1
    """Parts of the model that each pipeline rank holds, interleaved with the others' (less idle time, needs pp > 1)."""
    cp: int = 1
    """Context-parallel ranks, which share each sequence."""
    dp: int = 1
    """Data-parallel copies, when the ranks are started here; under a launcher it follows from the world size."""
    sequence: bool = False
    """Sequence parallelism (needs tp > 1)."""

    @property
    def ranks(self) -> int:
        """Processes of the layout."""
        return self.tp * self.pp * self.cp * self.dp


@dataclass
class ExportConfig:
    checkpoint: str = "last"
    """Which checkpoint of the training: ``last`` or ``best`` (``train.keep_best``)."""
    dir: str = ""
    """Where the Hugging Face folder is written; empty means ``export/`` of the run."""
    shard_mib: int = 4096
    """Largest safetensors file, MiB."""
    processes: int = 0
    """Processes that share the work; 0: one per core, or one for a small model."""
    pad_vocab_to: int = 1
    """Zero rows are put behind the tables up to a multiple of this (some inference engines ask for 64); the generation
    config forbids them."""
