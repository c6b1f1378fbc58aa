"""The text of the samples at which a training ends with an error, in a file that the error names.

Their numbers alone do not lead to any text: they count in Megatron's blended and shuffled order.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nemo_adapt import hf_tokenizer
from nemo_adapt.collectives import first_rank_does
from nemo_adapt.errors import one_line
from nemo_adapt.files import write_text
from nemo_adapt.train.fence import Fence

SUSPECTS = "suspect_samples.jsonl"
MOST = 512
"""Samples in the file: some megabytes, of any global batch."""


def write_suspects(samples: Any, tokenizer: Path, fence: Fence, batch: int, numbers: Sequence[int]) -> str:
    """Write the text of samples ``numbers``, the first ``MOST`` of them, to a file in the fence's folder. A collective.

    ``samples``: Megatron's blend, or its only set; ``batch``: samples of a step. Returns the file's path, or why it
    could not be written: the error that ends the training is still to come, and matters more.
    """

    def write() -> str:
        path = fence.folder / SUSPECTS
        try:
            fence.check()
            write_text(path, "".join(f"{line}\n" for line in _lines(samples, tokenizer, batch, numbers)))
        except Exception as error:  # of the disk, the tokenizer's files, the Rust library
            return f"their text could not be written: {one_line(error)}"
        return str(path)

    return str(first_rank_does(write))


def _lines(samples: Any, tokenizer: Path, batch: int, numbers: Sequence[int]) -> Iterator[str]:
    """Return a JSON object for each sample, and one that says how many are left out, if any."""
    loaded = hf_tokenizer.load(tokenizer)
    sets = getattr(samples, "datasets", [samples])
    for number in numbers[:MOST]:
        sample = samples[number]
        name = Path(sets[sample.get("dataset_id", 0)].dataset_path).name
        ids = [*sample["tokens"].tolist(), int(sample["labels"][-1])]
        text = loaded.decode(ids, clean_up_tokenization_spaces=False)
        record = {"sample": int(number), "step": number // batch + 1, "set": name, "text": text}
        yield json.dumps(record, ensure_ascii=False)
    if len(numbers) > MOST:
        yield json.dumps({"samples_left_out": len(numbers) - MOST})
