"""The base and the adapted model of a plan, and the tensors of them that a rank holds."""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from nemo_adapt import families
from nemo_adapt.config import Config, ParallelConfig
from nemo_adapt.config.layout import stage_layers
from nemo_adapt.config.phases import ALL, EMBEDDINGS, NEW_ROWS, Trained
from nemo_adapt.errors import UserError
from nemo_adapt.families.entries import ATTENTION, FC1, FC2, KEY_NORM, PROJECTION, QUERY_NORM
from nemo_adapt.families.family import (
    EMBEDDING,
    INPUT,
    OUTPUT,
    OUTPUT_BIAS,
    OUTPUT_LAYER,
    OWN,
    WHOLE,
    Entry,
    HfConfig,
    Shape,
)
from nemo_adapt.hf_model.model_config import read_config
from nemo_adapt.run.run_folder import RunFolder
from nemo_adapt.tokens.token_map import FILE_NAME, TokenMap
from nemo_adapt.tokens.vocab import padded_rows, target_rows

SHARDED = {EMBEDDING, OUTPUT_LAYER, OUTPUT_BIAS, f"{PROJECTION}.weight", f"{FC2}.weight"} | {
    f"{name}.{kind}" for name in (ATTENTION, FC1) for kind in ("weight", "bias")
}
"""Tensors that are sharded over TP; others are replicated. QK norms over all heads together are sharded, too."""


@dataclass(frozen=True, eq=False)
class Models:
    """The base model and the adapted one."""

    source: Shape
    target: Shape
    entries: list[Entry]
    """The adapted model's tensors."""
    source_parameters: int
    target_parameters: int
    first_new: int
    """Index of the first new row of the tables; rows from there to ``target.vocab`` are new."""
    stored_bytes: int
    """Bytes per weight in the base model's folder."""
    facts: str
    """Source of the model's settings, in words."""
    vocabulary: str
    """Source of the size of its vocabulary, in words."""


@dataclass(frozen=True)
class RankTensor:
    """A tensor, or its shard, on one rank."""

    elements: int
    layer: int | None = None
    """Index of its layer, from 0; ``None`` outside of layers."""
    table: str = ""
    """The table that it is a shard of, ``INPUT`` or ``OUTPUT``; empty for other tensors."""
    new: int = 0
    """Number of its elements that are in new rows."""


def models(config: Config) -> Models:
    """Return both models of a configuration; ``UserError`` if the base model's settings are unknown."""
    hf_config, facts = _settings(config)
    family = families.of(hf_config)
    source = family.shape(hf_config)
    tokenizer = RunFolder.of(config)["tokenizer"]
    if (tokenizer / FILE_NAME).is_file():
        token_map = TokenMap.load(tokenizer)
        rows, first, said = target_rows(source, token_map), token_map.source_vocab, f"{tokenizer}"
    elif given := config.tokenizer.given:
        first, rows, said = config.model.tokens or source.vocab, _tokens_of(Path(given)), f"tokenizer.given={given}"
    else:
        first = config.model.tokens or source.vocab
        rows = first + config.tokenizer.new_tokens if config.tokenizer.new_tokens else source.vocab
        limit = "at most " if config.tokenizer.method == "union" or config.tokenizer.target_disparity else ""
        spare = min(source.vocab - first, config.tokenizer.new_tokens)
        taken = f", {spare} of them in spare rows" if spare else ""
        said = f"{limit}tokenizer.new_tokens={config.tokenizer.new_tokens}{taken}"
    target = replace(source, vocab=rows)
    entries = family.entries(target)
    counts = count(family.entries(source), source), count(entries, target)
    dtype = hf_config.get("dtype") or hf_config.get("torch_dtype") or "bfloat16"
    stored = 4 if dtype == "float32" else 2
    return Models(source, target, entries, *counts, min(first, rows), stored, facts, said)


def _tokens_of(tokenizer: Path) -> int:
    """Return the number of tokens of a tokenizer."""
    from nemo_adapt import hf_tokenizer
    from nemo_adapt.tokens import documents

    return documents.vocabulary_size(hf_tokenizer.load(tokenizer))


def count(entries: Sequence[Entry], shape: Shape) -> int:
    """Return the number of parameters of a model, without padded rows and constants."""
    trained = (entry for entry in entries if not entry.rows[0].is_constant)
    return sum(math.prod(entry.shape) * (shape.layers if entry.stacked else 1) for entry in trained)


def layers_of(stage: int, layers: int, parallel: ParallelConfig) -> list[int]:
    """Return the indices of the layers that a pipeline stage holds, in all of its interleaved chunks."""
    bounds = list(accumulate(stage_layers(layers, parallel), initial=0))
    ours = range(stage, parallel.pp * parallel.virtual, parallel.pp)
    return [layer for chunk in ours for layer in range(bounds[chunk], bounds[chunk + 1])]


def rank_tensors(models: Models, config: Config, stage: int) -> tuple[RankTensor, ...]:
    """Return the tensors on a rank of pipeline stage ``stage``, padded rows included; of TP ranks that with most new
    rows."""
    parallel = config.parallel
    layers = tuple(layers_of(stage, models.target.layers, parallel))
    return _rank_tensors(models, parallel.tp, parallel.pp, stage, layers, config.resize.padded_vocab_multiple)


@functools.lru_cache(maxsize=4096)
def _rank_tensors(
    models: Models, tp: int, pp: int, stage: int, layers: tuple[int, ...], multiple: int
) -> tuple[RankTensor, ...]:
    shape, padded = models.target, padded_rows(models.target.vocab, multiple, tp)
    is_first, is_last = stage == 0, stage == pp - 1
    found = []
    for entry in models.entries:
        if entry.stacked:
            size = math.prod(entry.shape) // (tp if _is_sharded(entry.key, shape) else 1)
            found += [RankTensor(size, layer) for layer in layers]
        elif entry.key == EMBEDDING:
            if is_first or (is_last and shape.tied):
                found.append(_shard(models, INPUT, padded, tp, shape.hidden))
        elif entry.key in (OUTPUT_LAYER, OUTPUT_BIAS):
            if is_last:
                columns = shape.hidden if entry.key == OUTPUT_LAYER else 1
                found.append(_shard(models, INPUT if shape.tied else OUTPUT, padded, tp, columns))
        elif is_first if entry.key.startswith("embedding.") else is_last:
            found.append(RankTensor(math.prod(entry.shape)))
    return tuple(found)


def trained(tensors: Sequence[RankTensor], what: Trained) -> Iterator[int]:
    """Yield the elements of each parameter of ``tensors`` that a phase trains."""
    for each in tensors:
        is_whole_layer = each.layer is not None and each.layer in what.layers
        is_table = bool(each.table) and (EMBEDDINGS in what.kinds or each.table in what.kinds)
        if ALL in what.kinds or is_whole_layer or is_table:
            yield each.elements
        elif NEW_ROWS in what.kinds and each.new:
            yield each.new


def _settings(config: Config) -> tuple[HfConfig, str]:
    """Return config.json of ``model.path``, or else the recipe's ``model.config``, and its source in words."""
    folder = Path(config.model.path)
    if (folder / "config.json").is_file():
        return read_config(folder), f"{folder}/config.json"
    if config.model.config:
        return config.model.config, f"the recipe ({folder} has no config.json here)"
    raise UserError(
        f"model.path: {folder} has no config.json, and the recipe does not say what the model is: give its folder, "
        "or choose a model that recipes know with model=NAME"
    )


def _is_sharded(key: str, shape: Shape) -> bool:
    return key in SHARDED or (shape.qk_norm in (OWN, WHOLE) and key in (QUERY_NORM, KEY_NORM))


def _shard(models: Models, table: str, padded: int, tp: int, columns: int) -> RankTensor:
    """Return the shard of a table on the TP rank with the most new rows."""
    rows = padded // tp
    spans = [(max(models.first_new, rank * rows), min(models.target.vocab, (rank + 1) * rows)) for rank in range(tp)]
    new = max(max(0, stop - first) for first, stop in spans)
    return RankTensor(rows * columns, table=table, new=new * columns)
