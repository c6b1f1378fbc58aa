"""Megatron-LM's method of making an indexed dataset, for benchmarks/data.py: a pool with one tokenizer per process.

    python preprocess_data.py CORPUS.jsonl TOKENIZER OUT PREFIX END

As in its tools/preprocess_data.py, the parent reads lines and sends them to the pool 32 at a time; a process parses one
line's JSON, calls its Hugging Face tokenizer with one text, appends the end token and sends a list of ids back; the
parent adds it to the dataset. PREFIX (a number, or -) and END are the ids that our documents begin and end with, and
special tokens in the text are encoded as text, so that the ids can be the same. Prints seconds and a hash of all ids.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder
from transformers import AutoTokenizer

LINES = 32
"""Lines per message to a process."""
state = {}


def start(folder: str, prefix: list[int], end: int) -> None:
    state.update(tokenizer=AutoTokenizer.from_pretrained(folder), prefix=prefix, end=end)


def encode(line: str) -> list[int]:
    text = json.loads(line)["text"]
    ids = state["tokenizer"](text, add_special_tokens=False, split_special_tokens=True).input_ids
    return [*state["prefix"], *ids, state["end"]]


def main() -> None:
    corpus, folder, out, prefix, end = sys.argv[1:]
    began = time.perf_counter()
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    dtype = DType.optimal_dtype(vocabulary)
    builder = IndexedDatasetBuilder(f"{out}.bin", dtype=dtype)
    prefix_ids = [] if prefix == "-" else [int(prefix)]
    processes = len(os.sched_getaffinity(0))
    with multiprocessing.Pool(processes, start, (folder, prefix_ids, int(end))) as pool, open(corpus) as lines:  # noqa: PTH123
        for ids in pool.imap(encode, lines, LINES):
            builder.add_document(ids, [len(ids)])
    builder.finalize(f"{out}.idx")
    seconds = time.perf_counter() - began
    ids = np.fromfile(f"{out}.bin", dtype).astype(np.int32)
    print(json.dumps({"seconds": round(seconds, 2), "tokens": len(ids), "ids": hashlib.sha256(ids).hexdigest()}))
    for suffix in ("bin", "idx"):
        Path(f"{out}.{suffix}").unlink()


if __name__ == "__main__":
    main()
