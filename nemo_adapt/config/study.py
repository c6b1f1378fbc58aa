"""A study: which runs it is made of."""

from dataclasses import dataclass, field


@dataclass
class StudyConfig:
    axes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """What is varied: axis -> its values -> the words of a command line (``key=value``) that each of them means. The
    first value of an axis is the one that the others are compared with."""
    leave_out: list[str] = field(default_factory=list)
    """Cells that are not run, as ``axis=value axis!=value``: those for which all of it is true."""
    seeds: int = 3
    """Runs of each cell, each with its own order of the data and its own random rows."""
    match: str = "bytes"
    """What all cells are trained on alike: ``bytes`` of text, or ``tokens`` (of which a shorter spelling makes more
    text: the confound that equal bytes avoid)."""
    processes: int = 1
    """Runs at a time on this machine, or in each task of an array."""
    array: int = 0
    """Tasks of a Slurm job array that share the cells, for the cluster that ``site`` describes; 0: they run here."""
