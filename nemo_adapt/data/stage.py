"""Tokenize one set of text files into a Megatron indexed dataset (.bin/.idx), one document after the other.

Every document is kept whole, with the end-of-document rule of ``nemo_adapt.documents``.
"""

from pathlib import Path

import numpy as np

from nemo_adapt import documents, hf_tokenizer, text
from nemo_adapt.artifact import Inputs, write_json
from nemo_adapt.config import Config
from nemo_adapt.progress import Bar

BATCH = 1000
"""Documents handed to the tokenizer at once; it spreads them over the cores."""


def build(config: Config, inputs: Inputs, out: Path) -> None:
    """Write ``SET.bin``, ``SET.idx`` and ``counts.json`` for ``inputs["text"]`` with ``inputs["tokenizer"]``.

    SET is the name of the folder. counts.json holds documents, tokens (document marks included) and bytes of text.
    """
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    name = out.name.removesuffix(".partial")
    files = inputs["text"]
    tokenizer = hf_tokenizer.load(inputs["tokenizer"][0])
    # 16 bits wrap silently from 65,536 ids on: the vocabulary alone decides the width.
    dtype = DType.optimal_dtype(documents.vocabulary_size(tokenizer))
    builder = IndexedDatasetBuilder(str(out / f"{name}.bin"), dtype=dtype)
    counts = {"documents": 0, "tokens": 0, "bytes": 0}
    with Bar(f"tokenizing {name}", text.total_bytes(files) / 1e6, "MB") as bar:
        for batch in text.batches(text.documents(files, config.data.text_field), BATCH):
            for ids in documents.training_ids(tokenizer, batch):
                builder.add_document(np.array(ids, dtype=dtype), [len(ids)])
                counts["tokens"] += len(ids)
            size = sum(len(document.encode()) for document in batch)
            counts["documents"] += len(batch)
            counts["bytes"] += size
            bar.advance(size / 1e6)
    builder.finalize(str(out / f"{name}.idx"))
    write_json(out / "counts.json", counts)
