"""How long the job before the training may take."""

from pathlib import Path

from nemo_adapt.config import Config
from nemo_adapt.corpora.lines import Part
from nemo_adapt.corpora.mixture import text_sets
from nemo_adapt.corpora.text import expand
from nemo_adapt.errors import UserError
from nemo_adapt.launch import sbatch
from nemo_adapt.run.manifest import MANIFEST
from nemo_adapt.run.run_folder import RunFolder

BYTES_PER_SECOND = 3e6
"""Text that a core tokenizes: half of what two do with ever new words (benchmarks/results/data.md)."""
PACKED = 4
"""Bytes of text in one of a compressed file, as of natural text in gzip and zstd, and in Parquet about as well."""


def takes_longer_than_its_limit(config: Config) -> str:
    """Return a note if the job ``prepare`` will hardly tokenize all text within ``site.cpu.time``, else ""."""
    site, run = config.site.cpu, RunFolder.of(config)
    try:
        left = [each for name, each in text_sets(config).items() if not (run[f"data/{name}"] / MANIFEST).is_file()]
        size = sum(_text_bytes(path) for each in left for path in expand(each.text, each.key))
    except UserError:  # of a study, whose cells may have other text
        return ""
    cores = config.data.processes or site.cpus or 1  # without a request Slurm gives one
    hours = size / BYTES_PER_SECOND / cores / 3600
    if not site.time or not sbatch.is_longer_than(site.time, 0) or sbatch.is_longer_than(site.time, hours * 3600):
        return ""
    return (
        f"prepare: tokenizing {size / 1e9:,.0f} GB of text takes about {hours:,.0f} hours on {cores} cores, more than "
        f"site.cpu.time={site.time}: it is queued again three times at most; give site.cpu.cpus or more time"
    )


def _text_bytes(path: Path) -> int:
    return path.stat().st_size * (PACKED if Part(path).is_compressed or path.suffix == ".parquet" else 1)
