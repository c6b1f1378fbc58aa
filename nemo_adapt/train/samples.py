"""The samples of a training: Megatron's blend of the data sets, and its cache of their order."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from nemo_adapt.collectives import first_rank_does
from nemo_adapt.config import TrainConfig
from nemo_adapt.corpora.mixture import check_documents, counts
from nemo_adapt.errors import UserError
from nemo_adapt.files import write_json

CACHE_SIZES = "whole.json"
"""File in the cache of sample indices that lists the size of every other file there; written last."""
INDEX_HEADER, INDEX_OF_DOCUMENT = 42, 20
"""Bytes of Megatron's .idx: magic, version, dtype, two counts and the first document's number; and for each document,
which is one sequence, its length (4), its offset and the next one's number (8 each) (indexed_dataset.py)."""


def check_token_file(folder: Path) -> None:
    """Raise ``UserError`` unless a data set's token file (2 or 4 bytes per token) and its index have the sizes that
    they were written with, and for more documents than Megatron can number."""
    found = counts(folder)
    tokens, documents = found["tokens"], found["documents"]
    check_documents(folder.name, documents)
    index = INDEX_HEADER + INDEX_OF_DOCUMENT * documents
    _check_size(folder, ".bin", (2 * tokens, 4 * tokens), f"{tokens:,} tokens")
    _check_size(folder, ".idx", (index,), f"an index of {documents:,} documents")


def _check_size(folder: Path, ending: str, sizes: tuple[int, ...], content: str) -> None:
    path = folder / f"{folder.name}{ending}"
    found = path.stat().st_size if path.is_file() else 0
    if found not in sizes:
        raise UserError(
            f"{path} is damaged: {found:,} bytes are not {content}; delete {folder}, then run the same command"
        )


def training_set(sets: list[tuple[Path, float]], samples: int, train: TrainConfig, vocab: int, cache: Path) -> Any:
    """Return Megatron's blend of the data folders ``sets`` (folder, weight), with at least ``samples`` samples.

    The order depends only on the seed and, once a text is used more than once, on ``samples``. Needs the process group.
    ``UserError`` if the order cannot be written to ``cache``.
    """
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    prefixes, weights = [str(folder / folder.name) for folder, _ in sets], [weight for _, weight in sets]
    # The text is already tokenized: Megatron reads only these attributes of the tokenizer. ``Boundaries`` handles
    # document ends, as Megatron would build a seq x seq mask for each sample, 64 ms at 4,096 tokens.
    tokenizer = SimpleNamespace(vocab_size=vocab, eod=-1, pad=-1, unique_identifiers={"vocab_size": vocab})
    config = GPTDatasetConfig(
        random_seed=train.seed,
        sequence_length=train.seq_length,
        blend_per_split=[(prefixes, weights), None, None],
        mid_level_dataset_surplus=first_rank_does(surplus, samples, weights),
        path_to_cache=str(cache),
        tokenizer=tokenizer,
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    first_rank_does(_drop_incomplete, cache)
    try:
        built = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]
    except Exception as error:  # raised by Megatron, with other advice
        if not isinstance(error.__cause__, OSError):
            raise
        raise UserError(
            f"{cache}: the order of the samples could not be written ({error.__cause__}): is the disk full, or a quota "
            "used up? Make room, then run the same command"
        ) from None
    first_rank_does(_record_sizes, cache)
    for each in getattr(built, "datasets", [built]):
        each.indices = None  # a number for each document, on each rank, with which only the order is made
    return built


def surplus(samples: int, weights: list[float]) -> float:
    """Return how many more samples of each set Megatron has to make than its share of ``samples``, as a ratio.

    Its own 0.005, which decides the order of a text that is used more than once, unless the blend then takes more of a
    set than there are: it has up to as many samples more than asked for as there are sets, since each share is rounded
    up (blended_megatron_dataset_builder.py).
    """
    from megatron.core.datasets import helpers
    from megatron.core.datasets.gpt_dataset import GPTDatasetConfig
    from megatron.core.datasets.utils import normalize

    found, shares = GPTDatasetConfig.mid_level_dataset_surplus, np.array(normalize(weights))
    sizes = np.ceil(samples * shares)
    total = int(sizes.sum())
    if (np.ceil(sizes * (1 + found)) >= shares * total + 1).all():  # the blend is never a whole sample off a share
        return found
    taken = np.zeros(total, dtype=np.int16)
    helpers.build_blending_indices(taken, np.zeros(total, dtype=np.int64), shares, len(shares), total, False)
    needed = np.bincount(taken, minlength=len(shares))
    while (np.ceil(sizes * (1 + found)) < needed).any():
        found *= 2
    return found


def _drop_incomplete(cache: Path) -> None:
    """Delete an incomplete cache: Megatron takes every file in it for complete, even one whose writer was killed."""
    try:
        known = json.loads((cache / CACHE_SIZES).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        known = None
    if known != _sizes(cache):
        shutil.rmtree(cache, ignore_errors=True)


def _record_sizes(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / CACHE_SIZES, _sizes(cache))


def _sizes(cache: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in sorted(cache.glob("*")) if file.name != CACHE_SIZES}
