"""A study: a grid of runs that differ in the studied settings."""

from dataclasses import dataclass, field


@dataclass
class StudyConfig:
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """What is varied: axis -> its values -> a list of ``key=value`` words for each. The other values of an axis are
    compared with the first."""
    leave_out: list[str] = field(default_factory=list)
    """Cells that are not run: those that meet all conditions of an entry, such as ``axis=value axis!=value``."""
    seeds: int = 3
    """Runs of each combination of values, each with its own data order and its own random rows."""
    match: str = "bytes"
    """The budget that all cells share: ``bytes`` of text, or ``tokens`` (a tokenizer with fewer tokens per text then
    sees more text: the confound that equal bytes avoid)."""
    processes: int = 1
    """Concurrent runs on this machine, or in each task of an array."""
    array: int = 0
    """Tasks of a Slurm job array that share the cells, on the cluster of ``site``; 0: the cells run here."""
