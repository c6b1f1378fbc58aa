"""``nemo-adapt verify A B``: compare two models tensor by tensor, and with a text also their logits.

    nemo-adapt verify A B [text=FILE] [tolerance=1e-5]

A and B are Hugging Face folders or Megatron checkpoints, in any combination; of a folder of checkpoints, the newest is
compared. For a checkpoint and a Hugging Face folder, the folder's config.json determines which tensors correspond. Only
a piece of one tensor of each model is in memory at a time. Exits with 1 if they differ.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from nemo_adapt.checkpoint.folders import METADATA, TRACKER, checkpoint_in, complete
from nemo_adapt.checkpoint.reader import Checkpoint
from nemo_adapt.config import recipes
from nemo_adapt.console.progress import say
from nemo_adapt.corpora import text
from nemo_adapt.errors import UserError
from nemo_adapt.families.family import Entry, hf_shapes
from nemo_adapt.hf_model.model_config import read_shape
from nemo_adapt.hf_model.same_names import same_names, say_left_out
from nemo_adapt.hf_model.weights import HfWeights
from nemo_adapt.partition import blocks

PIECE_BYTES = 64 << 20
"""Most bytes of a tensor read at once."""
SHOWN = 20
"""Most differing tensors that are listed."""
MODEL, EXTRA_STATE = ("embedding.", "decoder.", "output_layer."), "_extra_state"
"""Beginnings of a model's keys in a checkpoint; and part of those of Transformer Engine's scales for fp8."""
TOKENS = 512
"""Tokens of the text on which logits are compared."""


@dataclass
class VerifyConfig:
    text: str = ""
    """A text file: logits are compared on its beginning; both models must be Hugging Face folders."""
    text_field: str = "text"
    """The field of a ``.jsonl`` file's lines, or the column of a ``.parquet`` file."""
    tolerance: float = 0.0
    """Largest absolute difference of two numbers that counts as equal."""


@dataclass
class Findings:
    """What was compared and what differs."""

    same: int = 0
    """Tensors that are equal."""
    wrong: dict[str, str] = field(default_factory=dict)
    """Name of a tensor -> how it differs."""

    def note(self, name: str, difference: float, tolerance: float) -> None:
        """Record the largest difference of a tensor."""
        if difference <= tolerance:
            self.same += 1
        else:
            self.wrong[name] = f"differs by up to {difference:.3g}"


Read = Callable[[int, int], torch.Tensor]
"""Function of ``start`` and ``stop`` that returns these rows of a tensor."""


def main(words: list[str]) -> None:
    """Run the command. ``UserError`` for invalid arguments; ``SystemExit`` with 1 if the models differ."""
    settings = [word for word in words if _is_setting(word)]
    places = [Path(word) for word in words if word not in settings]
    if len(places) != 2:
        raise UserError(f"verify takes two folders, not {len(places)}: nemo-adapt verify A B")
    first, second = places
    config = recipes.parse(VerifyConfig, settings)
    if not 0 <= config.tolerance < math.inf:  # also rejects NaN
        raise UserError(f"verify: tolerance={config.tolerance} must be a number of at least 0")
    kinds = [is_checkpoint(place) for place in (first, second)]
    # What cannot be compared is reported before anything large is read.
    if config.text and any(kinds):
        raise UserError("verify: logits can only be compared for Hugging Face folders; export the checkpoint first")
    ids = _ids(first, second, config) if config.text else []
    for place in (place for place, checkpoint in zip((first, second), kinds, strict=True) if checkpoint):
        if (chosen := checkpoint_in(place)) != place:
            say(f"{place}: {chosen.name} is compared")
    found = compare(first, second, config.tolerance)
    say(f"{found.same} tensors are equal, {len(found.wrong)} are not")
    for name in list(found.wrong)[:SHOWN]:
        say(f"  {name} {found.wrong[name]}")
    if len(found.wrong) > SHOWN:
        say(f"  and {len(found.wrong) - SHOWN} others")
    far = False
    if config.text:
        difference = logits_difference(first, second, ids)
        say(f"logits differ by up to {difference:.3g}")
        far = difference > config.tolerance
    if found.wrong or far:
        raise SystemExit(1)


def _is_setting(word: str) -> bool:
    """Return True for ``key=value``; not for the path of a model with a = in it."""
    key = word.partition("=")[0]
    return "=" in word and (key in {entry.name for entry in fields(VerifyConfig)} or not Path(word).exists())


def compare(first: Path, second: Path, tolerance: float = 0.0) -> Findings:
    """Compare all tensors of two models; ``UserError`` for a folder that is neither kind of model."""
    kinds = [is_checkpoint(place) for place in (first, second)]
    if kinds == [False, False]:
        ours, theirs = same_names(first, second)
        return _by_name(_of_folder(ours), _of_folder(theirs), tolerance)
    if kinds == [True, True]:
        return _by_name(_of_checkpoint(Checkpoint(first)), _of_checkpoint(Checkpoint(second)), tolerance)
    checkpoint, folder = (first, second) if kinds[0] else (second, first)
    return _with_table(Checkpoint(checkpoint), folder, tolerance)


def is_checkpoint(place: Path) -> bool:
    """Return True for a Megatron checkpoint or a folder of them, False for a Hugging Face folder; ``UserError`` for
    anything else."""
    if (place / METADATA).is_file():
        return True
    if (place / "config.json").is_file():
        return False
    if (place / TRACKER).is_file() or complete(place):
        return True
    raise UserError(
        f"{place} is neither a Hugging Face folder (no config.json) nor a Megatron checkpoint (no {METADATA})"
    )


Tensors = dict[str, tuple[tuple[int, ...], torch.dtype, Read]]


def _of_folder(weights: HfWeights) -> Tensors:
    return {name: (stored.shape, stored.dtype, partial(weights.rows, name)) for name, stored in weights.tensors.items()}


def _of_checkpoint(checkpoint: Checkpoint) -> Tensors:
    return {
        key: (shape, checkpoint.dtypes[key], partial(checkpoint.rows, key))
        for key, shape in checkpoint.shapes.items()
        if not key.startswith("optimizer.")
    }


def _by_name(ours: Tensors, theirs: Tensors, tolerance: float) -> Findings:
    found = Findings()
    for name in sorted(ours.keys() ^ theirs.keys()):
        found.wrong[name] = "is only in the first" if name in ours else "is only in the second"
    for name in [name for name in ours if name in theirs]:
        (shape, dtype, read), (other_shape, other_dtype, other_read) = ours[name], theirs[name]
        if shape != other_shape:
            found.wrong[name] = f"is {shape} in the first and {other_shape} in the second"
            continue
        if dtype != other_dtype:
            found.wrong[name] = f"is {dtype} in the first and {other_dtype} in the second"
            continue
        pieces = _pieces(shape, dtype)
        found.note(name, _largest((read(*piece), other_read(*piece)) for piece in pieces), tolerance)
    return found


def _with_table(checkpoint: Checkpoint, folder: Path, tolerance: float) -> Findings:
    """Compare through the family's list of tensors. Rows that the checkpoint has beyond the folder's must be zero.

    The folder's tensors need not have the shapes that its config.json says: such are differences.
    """
    family, shape = read_shape(folder)
    weights = HfWeights(folder, family, shape)
    say_left_out(folder, weights)
    found, table = Findings(), family.entries(shape)
    for key in checkpoint.shapes.keys() - {entry.key for entry in table}:
        if key.startswith(MODEL) and EXTRA_STATE not in key:
            found.wrong[key] = "is not in the folder"
    shapes = hf_shapes(table, shape.layers)
    for tensor in weights.tensors.keys() - shapes.keys() - ({family.output_table} if shape.tied else set()):
        found.wrong[tensor] = "is only in the folder"
    for entry in table:
        stored, wanted = checkpoint.shapes.get(entry.key), entry.global_shape(shape.layers)
        if stored is None:
            found.wrong[entry.key] = "is not in the checkpoint"
            continue
        if stored[1:] != wanted[1:] or stored[0] < wanted[0] or (entry.stacked and stored != wanted):
            found.wrong[entry.key] = f"is {stored} in the checkpoint and {wanted} in the folder"
            continue
        for layer in range(shape.layers if entry.stacked else 1):
            name = f"{entry.key} {layer}" if entry.stacked else entry.key
            tensors = {rows.name.format(layer=layer) for rows in entry.rows}
            if absent := tensors - weights.tensors.keys():
                found.wrong[name] = f"is not in the folder ({min(absent)})"
                continue
            if other := [each for each in sorted(tensors) if weights.tensors[each].shape != shapes[each]]:
                is_now = f"{other[0]} is {weights.tensors[other[0]].shape} in the folder"
                found.wrong[name] = f"cannot be compared: {is_now}, whose config.json says {shapes[other[0]]}"
                continue
            found.note(name, _entry_difference(checkpoint, weights, entry, layer), tolerance)
        if not entry.stacked and stored[0] > entry.shape[0]:
            padding = checkpoint.rows(entry.key, entry.shape[0], stored[0])
            if padding.count_nonzero():
                found.wrong[entry.key] = f"has rows beyond the folder's {entry.shape[0]} that are not zero"
    return found


def _entry_difference(checkpoint: Checkpoint, weights: HfWeights, entry: Entry, layer: int) -> float:
    worst = 0.0
    for start, stop in _pieces(entry.shape, checkpoint.dtypes[entry.key]):
        ours = checkpoint.entry_rows(entry, layer, start, stop)
        for rows, place in entry.sources(start, stop):
            part, name = ours[place], rows.name.format(layer=layer)
            theirs = torch.empty(part.shape, dtype=weights.tensors[name].dtype)
            weights.read(name, rows.start, rows.stop, theirs, rows.transposed)
            worst = max(worst, _largest([(part, theirs)]))
    return worst


def _pieces(shape: tuple[int, ...], dtype: torch.dtype) -> Iterable[tuple[int, int]]:
    """Return ranges of rows that cover the tensor, each at most ``PIECE_BYTES`` (or one row)."""
    row_bytes = torch.Size(shape[1:]).numel() * dtype.itemsize
    return blocks(0, shape[0] if shape else 1, row_bytes, PIECE_BYTES)


def _largest(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the largest absolute difference; infinity where only one of two numbers is NaN, or an infinity."""
    worst = 0.0
    for one, other in pairs:
        if one.dtype == other.dtype and torch.equal(one, other):
            continue
        difference = (one.double() - other.double()).abs()
        difference[(one == other) | (one.isnan() & other.isnan())] = 0.0  # also of two infinities
        worst = max(worst, float(difference.nan_to_num(nan=float("inf")).max()))
    return worst


def _ids(first: Path, second: Path, config: VerifyConfig) -> list[int]:
    """Return the first ``TOKENS`` ids of the text; ``UserError`` for no text, and if the tokenizers give other ids."""
    from nemo_adapt import hf_tokenizer

    documents = text.documents(text.expand([config.text], "text"), config.text_field)
    written = "\n".join(islice(documents, TOKENS))[: 16 * TOKENS]
    ids, others = (hf_tokenizer.load(place)(written)["input_ids"][:TOKENS] for place in (first, second))
    if ids != others or not ids:
        raise UserError(
            f"verify: the two tokenizers do not give {config.text} the same ids, so logits cannot be compared"
        )
    return list(ids)


def logits_difference(first: Path, second: Path, ids: list[int]) -> float:
    """Return the largest difference of the logits that two Hugging Face models give for ``ids``, in float32;
    ``UserError`` if they have different vocab sizes, or one cannot be loaded."""
    from nemo_adapt.hf_model import transformers_model

    found: list[torch.Tensor] = []
    for place in (first, second):
        model = transformers_model.load(place, torch.float32)
        with torch.no_grad():
            found.append(model(torch.tensor([ids])).logits)
        del model  # before the next one is loaded
    if found[0].shape != found[1].shape:
        sizes = " and ".join(f"{logits.shape[-1]:,}" for logits in found)
        raise UserError(f"verify: logits cannot be compared: the models give {sizes} of them for a token")
    return _largest([(found[0], found[1])])
