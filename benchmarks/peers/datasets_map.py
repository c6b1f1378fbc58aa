"""``datasets.map`` with a fast tokenizer, for benchmarks/data.py, in a separate virtual environment.

    python datasets_map.py CORPUS.jsonl TOKENIZER CACHE PREFIX END

Batches of a thousand texts, one process per core; the result is an Arrow table on disk. Prints seconds (reading the
JSON and mapping) and a hash of all ids, with PREFIX (a number, or -) before and END behind each document's.
"""

import hashlib
import json
import os
import sys
import time

import datasets
import numpy as np
from transformers import AutoTokenizer


def main() -> None:
    corpus, folder, cache, prefix, end = sys.argv[1:]
    datasets.disable_progress_bars()
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 10**9  # or it warns about every long text

    def encode(batch: dict) -> dict:
        return tokenizer(
            batch["text"], add_special_tokens=False, split_special_tokens=True, return_attention_mask=False
        )

    text = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=cache)
    made = text.map(encode, batched=True, num_proc=len(os.sched_getaffinity(0)), remove_columns=["text"])
    seconds = time.perf_counter() - began
    ids, count = hashlib.sha256(), 0
    before, behind = [] if prefix == "-" else [int(prefix)], [int(end)]
    for batch in made.iter(1000):
        whole = np.concatenate([np.array([*before, *each, *behind], np.int32) for each in batch["input_ids"]])
        ids.update(whole)
        count += len(whole)
    print(json.dumps({"seconds": round(seconds, 2), "tokens": count, "ids": ids.hexdigest()}))


if __name__ == "__main__":
    main()
