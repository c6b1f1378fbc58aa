"""One static vector for each target id: trained on the target text, of another model, or the user's own."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nemo_adapt import hf_tokenizer
from nemo_adapt.auxiliary import donor, fasttext
from nemo_adapt.config import Config
from nemo_adapt.errors import UserError
from nemo_adapt.run.inputs import Inputs
from nemo_adapt.tokens import documents
from nemo_adapt.tokens.token_map import TokenMap

NUMBERS = "fiub"
"""Kinds of numpy's real numbers, Booleans included."""


def make(config: Config, inputs: Inputs) -> dict[str, npt.NDArray[np.float32]]:
    """Return ``vectors`` [target vocab, dims], float32; zero rows for tokens without a vector.

    They are read from ``inputs["vectors"]`` if the user gives a file or another model's folder, else trained on
    ``inputs["text"]`` tokenized by the extended tokenizer (FOCUS, section 3, whose program takes the target language's
    own tokenizer there); tokens that occur less than ``auxiliary.min_count`` times get none.
    """
    folder = inputs["tokenizer"][0]
    token_map, tokenizer = TokenMap.load(folder), hf_tokenizer.load(folder)
    if "vectors" in inputs:
        (given,) = inputs["vectors"]
        if given.is_dir():
            return {"vectors": finite(given, donor.vectors(given, tokenizer, token_map))}
        return {"vectors": read(given, token_map.target_vocab)}

    def cut(batch: list[str]) -> Any:
        return map(tokenizer.convert_ids_to_tokens, documents.encode(tokenizer, batch))

    known = fasttext.train("token vectors", inputs["text"], config.data.text_field, cut, config.auxiliary)
    found = np.zeros((token_map.target_vocab, known.vector_size), dtype=np.float32)
    for token, index in tokenizer.get_vocab().items():
        if token in known.key_to_index:
            found[index] = known[token]
    return {"vectors": found}


def read(path: Path, rows: int) -> npt.NDArray[np.float32]:
    """Read the vectors in a ``.npz`` or ``.safetensors`` file, its only array or that named ``vectors``, as float32.

    ``UserError`` if its shape is not [rows, dims], it has other contents than finite numbers, or the file cannot be
    read.
    """
    try:
        tables = dict(np.load(path, allow_pickle=False)) if path.suffix == ".npz" else _safetensors(path)
    except Exception as error:  # zip, header and value errors of two libraries
        reason = " ".join(str(error).split())
        raise UserError(f"auxiliary.vectors: {path} is not a .npz or .safetensors file of numbers: {reason}") from None
    table = tables.get("vectors", next(iter(tables.values())) if len(tables) == 1 else None)
    if table is None:
        raise UserError(f"auxiliary.vectors: {path} holds {', '.join(tables)}: call the table 'vectors'")
    if table.dtype.kind not in NUMBERS:
        raise UserError(f"auxiliary.vectors: {path} holds {table.dtype}, not numbers: save the table as float32")
    if table.ndim != 2 or table.shape[0] != rows or not table.shape[1]:
        raise UserError(
            f"auxiliary.vectors: {path} holds {list(table.shape)}, but the extended tokenizer has {rows} ids: "
            "give one vector for each id"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32 is refused as infinity
        return finite(path, table.astype(np.float32))


def finite(path: Path, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the vectors; ``UserError`` for numbers that are none."""
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise UserError(f"auxiliary.vectors: {path} holds NaN or infinity, first in row {wrong[0]}")
    return vectors


def _safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors.torch import load_file  # numpy's loader has no bfloat16

    return {name: tensor.float().numpy() for name, tensor in load_file(path).items()}
