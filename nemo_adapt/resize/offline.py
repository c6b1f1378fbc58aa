"""``nemo-adapt resize-hf``: resize the tables of a Hugging Face model folder without Megatron, ranks or a loaded model.

    nemo-adapt resize-hf model=/models/llama tokenizer=runs/tr/tokenizer out=/models/llama-tr resize.input=subword_mean

One process streams rows from the safetensors files through the engine that the ranks use, so the new rows are
bit-identical to theirs where the files have the dtype that the model is trained in. ``tokenizer`` is a folder made by
the tokenizer stage; ``resize.*`` are the keys of a recipe.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from nemo_adapt import hf_tokenizer
from nemo_adapt.checkpoint.weight_checks import check_tied
from nemo_adapt.config import ExportConfig, ResizeConfig, recipes
from nemo_adapt.console.progress import Bar, say
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import EMBEDDING, INPUT, OUTPUT, OUTPUT_BIAS, TABLES, Family, Shape
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.model_files import complete_folder, read_generation
from nemo_adapt.hf_model.weights import HfWeights, HfWriter
from nemo_adapt.partition import blocks
from nemo_adapt.resize.engine import Resize, bias_plan
from nemo_adapt.resize.noise import noise_seed
from nemo_adapt.resize.plan import needs_of
from nemo_adapt.resize.planning import plan_of, spare_rows
from nemo_adapt.resize.stored import StoredTable
from nemo_adapt.resize.strategy_inputs import AUXILIARY, StrategyInputs
from nemo_adapt.run import artifact
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap
from nemo_adapt.tokens.vocab import kept_rows, target_rows

UNUSED = {
    "resize": ("padded_vocab_multiple", "learned_share", "learned_lr"),
    "export": ("checkpoint", "dir", "processes", "pad_vocab_to"),
}
"""Section -> its keys that this command does not use."""
PIECE_BYTES = 8 << 20
"""Bytes written or copied at once."""


@dataclass
class OfflineConfig:
    model: str = ""
    """Hugging Face model folder."""
    tokenizer: str = ""
    """Folder of the extended tokenizer, with its token_map.json."""
    out: str = ""
    """Folder to create."""
    auxiliary: str = ""
    """The folder ``auxiliary/`` of a run, for strategies that need its data."""
    resize: ResizeConfig = field(default_factory=ResizeConfig)
    """Strategies and seed as in a recipe, except ``probed``: there is no probe here. Tables are not padded."""
    export: ExportConfig = field(default_factory=ExportConfig)
    """``export.shard_mib`` as in a recipe."""


def main(words: list[str]) -> None:
    """Run the command. Raises ``UserError`` for missing arguments, for settings without effect, and for all that
    ``_check_ids`` and ``resize_folder`` refuse."""
    config = recipes.parse(OfflineConfig, words)
    recipes.require("resize-hf", config, ("model", "tokenizer", "out"))
    model, tokenizer = Path(config.model), Path(config.tokenizer)
    _check_used(config)
    _, shape = read_shape(model)  # report a missing folder before hashing anything
    read_generation(model)
    _check_ids(tokenizer, target_rows(shape, TokenMap.load(tokenizer)))
    inputs = {"model": [model], "tokenizer": [tokenizer]}
    needs = needs_of(config.resize.input, config.resize.output)
    if needs and not config.auxiliary:
        raise UserError(
            f"resize-hf: resize.input={config.resize.input}, resize.output={config.resize.output} need "
            f"{', '.join(needs)}: give auxiliary=RUN/auxiliary of a run that made it (nemo-adapt auxiliary recipe=...)"
        )
    auxiliary = {need: Path(config.auxiliary) / need for need in needs}
    inputs |= {f"{AUXILIARY}.{need}": [folder] for need, folder in auxiliary.items()}
    for folder in auxiliary.values():
        if not folder.is_dir():
            raise UserError(f"resize-hf: {folder} does not exist: run the auxiliary stage with the same strategies")
    deciding = {"resize": asdict(config.resize), "shard_mib": config.export.shard_mib}
    stage = artifact.Stage("resize-hf", Path(config.out), deciding, inputs)
    strategy_inputs = StrategyInputs(model, auxiliary)
    artifact.run(
        stage, lambda place: resize_folder(strategy_inputs, tokenizer, place, config.resize, config.export.shard_mib)
    )


def _check_used(config: OfflineConfig) -> None:
    """Raise ``UserError`` for settings of the sections that the command shares with ``run``, but does not use."""
    given = {"resize": config.resize, "export": config.export}
    usual = {"resize": ResizeConfig(), "export": ExportConfig()}
    for section, keys in UNUSED.items():
        for key in keys:
            if getattr(given[section], key) != getattr(usual[section], key):
                raise UserError(f"resize-hf: {section}.{key} has no effect here: leave it out")


def _check_ids(tokenizer: Path, rows: int) -> None:
    """Raise ``UserError`` if the tokenizer has ids beyond the ``rows`` that the model gets by its token map. (A folder
    may have the map alone.)"""
    if not (tokenizer / "tokenizer.json").is_file():
        return
    needed = documents.rows_of_text(hf_tokenizer.load(tokenizer))
    if needed > rows:
        raise UserError(
            f"{tokenizer} has ids up to {needed - 1}, but with its token map the model gets {rows} rows: they do not "
            "belong together, run the tokenizer stage again"
        )


def resize_folder(
    strategy_inputs: StrategyInputs, tokenizer: Path, out: Path, config: ResizeConfig, shard_mib: int
) -> None:
    """Write the model of ``strategy_inputs`` with the vocabulary of ``tokenizer`` into the empty folder ``out``.

    Tensors keep their dtypes; all but the tables are copied bit for bit. Memory holds a few portions of rows. Raises
    ``UserError`` for a table that is missing or has other rows than config.json says.
    """
    model = strategy_inputs.model_folder
    token_map, (family, shape) = TokenMap.load(tokenizer), read_shape(model)
    weights, rows = HfWeights(model, family, shape), target_rows(shape, token_map)
    resized, dropped = _tables(family, shape)
    for name in resized:
        if name not in weights.tensors or weights.tensors[name].shape[0] != shape.vocab:
            found = weights.tensors[name].shape if name in weights.tensors else "missing"
            raise UserError(f"{model}: tensor {name} is {found}, config.json says {shape.vocab} rows")
    check_tied(weights, model)
    sizes = {
        name: ((rows, *stored.shape[1:]) if name in resized else stored.shape, stored.dtype)
        for name, stored in weights.tensors.items()
        if name not in dropped
    }
    for said in (spare_rows(token_map, shape.vocab), weights.others_left_out):
        if said:
            say(said)
    target = HfWriter(out, sizes, shard_mib << 20)
    with Bar("resizing", target.total_bytes / 1e6, "MB") as bar:
        for name, (size, _) in sizes.items():
            if name in resized:
                _resize(weights, name, resized[name], shape.tied, token_map, config, strategy_inputs, target, rows, bar)
            else:
                _copy(weights, name, size[0] if size else 1, target, bar)
    target.close()
    weights.close()
    embedding = next(name for name, key in resized.items() if key == EMBEDDING)
    complete_folder(out, model, tokenizer, rows, sizes[embedding][1], rows, kept_rows(shape, tokenizer))


def _tables(family: Family, shape: Shape) -> tuple[dict[str, str], set[str]]:
    """Return Hugging Face name -> Megatron key of what is resized, and names that a tied model stores redundantly."""

    def names(tied: bool) -> dict[str, str]:
        entries = family.entries(replace(shape, tied=tied))
        return {entry.rows[0].name: entry.key for entry in entries if entry.key in TABLES}

    return names(shape.tied), set(names(False)) - set(names(shape.tied))


def _resize(
    weights: HfWeights, name: str, key: str, tied: bool, token_map: TokenMap, config: ResizeConfig,
    strategy_inputs: StrategyInputs, target: HfWriter, rows: int, bar: Bar,
) -> None:  # fmt: skip
    """Write the resized table ``name`` in portions."""
    source = StoredTable(weights, name)
    table = INPUT if tied or key == EMBEDDING else OUTPUT
    plan, kept = plan_of(config, table, token_map, source.total, strategy_inputs)
    if key == OUTPUT_BIAS:
        plan = bias_plan(plan)
    resize = Resize(source, plan, kept, noise_seed(config.seed, table), name)
    row_bytes = source.like.shape[1] * source.like.element_size()
    for start, stop in blocks(0, rows, row_bytes, PIECE_BYTES):
        portion = source.like.new_empty((stop - start, source.like.shape[1]))
        resize.fill(portion, start)
        target.write(name, start, portion)
        bar.advance(len(portion) * row_bytes / 1e6)


def _copy(weights: HfWeights, name: str, rows: int, target: HfWriter, bar: Bar) -> None:
    """Copy the tensor ``name``, which has ``rows`` rows, in pieces."""
    stored = weights.tensors[name]
    row_bytes = stored.row_elements * stored.dtype.itemsize
    for start, stop in blocks(0, rows, row_bytes, PIECE_BYTES):
        target.write(name, start, weights.rows(name, start, stop))
        bar.advance((stop - start) * row_bytes / 1e6)
