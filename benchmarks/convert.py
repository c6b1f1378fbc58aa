"""Import and export of a synthetic Llama: seconds against a plain copy of the same bytes, memory, bytes read.

    python benchmarks/convert.py [--quick] [--gb N] [--processes 1 2] [--keep FOLDER]

A Llama of the given size (2 GB, `--quick` 0.2) is written in bf16 shards of random numbers. Then, each in its own
process and one after the other: `cp` of the model folder, import (Hugging Face -> Megatron checkpoint) and export
(back) with each number of processes. The time includes flushing the output to disk. Peak memory is that of the largest
process; bytes read are those that the processes read from the model's or checkpoint's files. The exported tensors are
compared with the originals bit by bit.
"""

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nemo_adapt.families.family import hf_shapes
from nemo_adapt.families.llama import LLAMA
from nemo_adapt.hf_model.weights import HfWriter
from nemo_adapt.machine.facts import versions

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32_000, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
BLOCK = 8 << 20
"""Numbers drawn at once: 14 random bits each, which read as bf16 are between 0 and 2."""


def make_model(folder: Path, gigabytes: float) -> int:
    """Write the model; return the bytes of its tensors."""

    def shapes(layers: int) -> dict[str, tuple[int, ...]]:
        shape = LLAMA.shape({**CONFIG, "num_hidden_layers": layers})
        return hf_shapes(LLAMA.entries(shape), layers)

    size = [sum(2 * int(np.prod(shape)) for shape in shapes(layers).values()) for layers in (1, 2)]
    layers = max(1, round((gigabytes * 1e9 - size[0]) / (size[1] - size[0])) + 1)
    folder.mkdir(parents=True)
    tensors = {name: (shape, torch.bfloat16) for name, shape in shapes(layers).items()}
    writer = HfWriter(folder, tensors, 1 << 30)
    draw = np.random.default_rng(0)
    for name, (shape, _) in tensors.items():
        step = max(1, BLOCK // int(np.prod(shape[1:])))
        for row in range(0, shape[0], step):
            numbers = draw.integers(0, 1 << 14, (min(step, shape[0] - row), *shape[1:]), dtype=np.uint16)
            writer.write(name, row, torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16))
    writer.close()
    content = {**CONFIG, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    tokenizer = folder.parent / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "token_map.json").write_text(json.dumps({"source_vocab": CONFIG["vocab_size"], "tokens": []}))
    return writer.total_bytes


def run_copy(place: Path, processes: int) -> dict[str, Any]:
    subprocess.run(["cp", "-r", place / "model", place / "copy"], check=True)
    return {"per_process": []}


def run_import(place: Path, processes: int) -> dict[str, Any]:
    from nemo_adapt import convert
    from nemo_adapt.config import Config

    config = Config()
    config.convert.processes = processes
    (place / "checkpoint").mkdir()
    return convert.build(config, {"model": [place / "model"]}, place / "checkpoint")


def run_export(place: Path, processes: int) -> dict[str, Any]:
    from nemo_adapt.config import ExportConfig
    from nemo_adapt.export import export_checkpoint

    (place / "export").mkdir()
    config = ExportConfig(shard_mib=1024, processes=processes)
    return export_checkpoint(place / "checkpoint", place / "model", place / "tokenizer", place / "export", config)


RUNS = {"copy": (run_copy, "copy"), "import": (run_import, "checkpoint"), "export": (run_export, "export")}
"""Name -> the function that runs it and returns its facts, and the folder that it makes."""
FACTS = "facts.json"


def contest(name: str, place: Path, processes: int) -> dict[str, float]:
    """Make one run in a new process and return its measurements."""
    made = place / RUNS[name][1]
    shutil.rmtree(made, ignore_errors=True)
    os.sync()
    began = time.perf_counter()
    words = ["--child", name, "--place", str(place), "--with", str(processes)]
    subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.DEVNULL)
    os.sync()
    facts: dict[str, float] = {"seconds": round(time.perf_counter() - began, 2)}
    if each := json.loads((place / FACTS).read_text(encoding="utf-8"))["per_process"]:
        facts |= {
            "peak_mib": max(one["peak_mib"] for one in each),
            "bytes_read": sum(one["bytes_read"] for one in each),
        }
    return facts


def main() -> None:
    """Run the benchmark: make the model, run everything, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="0.2 GB")
    parser.add_argument("--gb", type=float, default=None, help="size of the model (default 2)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep", type=Path, help="folder in which everything is made and stays")
    for hidden in ("--child", "--place", "--with"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        place = Path(arguments.place)
        made = RUNS[arguments.child][0](place, int(getattr(arguments, "with")))
        (place / FACTS).write_text(json.dumps(made), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.keep or Path(folder)
        size = make_model(place / "model", arguments.gb or (0.2 if arguments.quick else 2.0))
        print(
            f"model: {size / 1e9:.2f} GB; versions: {json.dumps(versions())}, load {os.getloadavg()[0]:.1f}", flush=True
        )
        says, copies = [], []
        for processes in arguments.processes:
            for name in RUNS:
                facts = contest(name, place, processes)
                if name == "copy":
                    copies.append(facts["seconds"])
                    print(f"copy: {facts['seconds']} s, {size / 1e9 / facts['seconds']:.2f} GB/s", flush=True)
                    continue
                share, read = copies[-1] / facts["seconds"], facts["bytes_read"] / size
                says.append(f"{name} with {processes}: {share:.2f} of cp's speed, {facts['peak_mib']} MiB")
                print(
                    f"{name}, {processes} processes: {facts['seconds']} s, {size / 1e9 / facts['seconds']:.2f} GB/s, "
                    f"{share:.2f} of cp, peak {facts['peak_mib']} MiB, read {read:.3f} of the bytes",
                    flush=True,
                )
            shards = sorted(path.name for path in (place / "model").glob("*.safetensors"))
            _, unlike, missing = filecmp.cmpfiles(place / "model", place / "export", shards, shallow=False)
            if unlike or missing:
                raise SystemExit(f"exported files differ from the model's: {unlike + missing}")
        print(f"summary: {size / 1e9:.1f} GB, files the same bits; {'; '.join(says)}")


if __name__ == "__main__":
    main()
