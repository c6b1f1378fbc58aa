"""Tokenizing a corpus: our ``data`` stage against Megatron-LM's method and ``datasets.map``, MB of text per second.

    python benchmarks/data.py [--quick] [--mb N] [--rounds N] [--bases llama2 gpt2] [--venv FOLDER] [--distinct]

The corpus (100 MB, `--quick` 13 MB) is real text in six languages as JSON lines, repeated as often as needed; without
real data it is the small world's text, with a base trained on it. A repeated text has no new words after its first
copy, which favours a tokenizer that caches words. With `--distinct` letters of some words are changed, so that the
number of distinct words grows with the text as in natural text (benchmarks/tokenizer.py, Turkish only). Contestants,
each on all cores and in separate processes, take turns `--rounds` times, of which the fastest counts:

- `nemo_adapt`: the stage, from the tokenizer's folder and the corpus to .bin, .idx and counts.json;
- `preprocess_data`: the method of Megatron-LM's tool (benchmarks/peers/preprocess_data.py);
- `datasets.map`: Hugging Face's (benchmarks/peers/datasets_map.py), in the virtual environment `--venv`, which is made
  if it does not exist; left out without `--venv`.

Imports are not timed. The benchmark fails unless all give the same ids.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizer import kept_corpus, real_words, write_base

from nemo_adapt import hf_tokenizer
from nemo_adapt.machine.facts import versions
from nemo_adapt.machine.workers import cores
from nemo_adapt.tokens import documents

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
PEERS = Path(__file__).parent / "peers"
BASES = ("llama2", "gpt2")


def real_lines() -> Iterator[str]:
    """Yield the lines of all training texts; without real data, those of the small world."""
    with tempfile.TemporaryDirectory() as place:
        files = sorted((DATA / "text").glob("*.train.txt"))
        if not files:
            from nemo_adapt.smallworld.make import make

            world = Path(place) / "world"
            make(world)
            files = sorted((world / "text").glob("*.train.txt"))
        for path in files:
            yield from filter(None, map(str.strip, path.read_text(encoding="utf-8").split("\n")))


def write_corpus(path: Path, megabytes: float, distinct: bool) -> int:
    """Write the corpus as JSON lines; return its bytes of text."""
    lines = list(real_lines())
    if distinct:
        text = path.with_suffix(".txt")
        kept_corpus(text, megabytes, real_words())
        lines = text.read_text(encoding="utf-8").split("\n")[:-1]
    size = 0
    with path.open("w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            for line in lines:
                out.write(json.dumps({"text": line}, ensure_ascii=False) + "\n")
                size += len(line.encode())
                if size >= megabytes * 1e6:
                    break
    return size


def save_base(name: str, folder: Path) -> tuple[str, str]:
    """Save the base tokenizer as transformers does; return the ids that documents begin (- for none) and end with."""
    real = DATA / "tokenizers" / name
    tokenizer = hf_tokenizer.load(real if real.is_dir() else write_base(folder.with_name(f"{name}_trained")))
    tokenizer.save_pretrained(folder)
    prefix = documents.training_prefix(tokenizer)
    return str(prefix[0]) if prefix else "-", str(documents.end_id(tokenizer))


def child(corpus: Path, folder: Path, out: Path) -> None:
    """Run our stage in this process and its workers."""
    import megatron.core.datasets.indexed_dataset  # noqa: F401

    from nemo_adapt.config import Config
    from nemo_adapt.data import stage, store

    out.mkdir()
    began = time.perf_counter()
    stage.build(Config(), {"tokenizer": [folder], "text": [corpus]}, out)
    seconds = time.perf_counter() - began
    dtype = store.token_dtype(documents.vocabulary_size(hf_tokenizer.load(folder)))
    ids = np.fromfile(out / f"{out.name}.bin", dtype).astype(np.int32)
    shutil.rmtree(out)
    print(json.dumps({"seconds": round(seconds, 2), "tokens": len(ids), "ids": hashlib.sha256(ids).hexdigest()}))


def measured(command: list[object], cache: Path) -> dict[str, object]:
    """Run a contestant; return the JSON in its last line of output, and delete its cache."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(cache)}
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, env=environment)
    shutil.rmtree(cache, ignore_errors=True)
    if done.returncode:
        raise SystemExit(f"{command} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def contest(base: str, corpus: Path, size: int, rounds: int, python: Path | None, place: Path) -> str:
    """Run all contestants on one base, in turn; print each and return a line of the summary."""
    folder, cache = place / base, place / "cache"
    prefix, end = save_base(base, folder)
    peer = [corpus, folder, place / "theirs", prefix, end]
    commands: dict[str, list[object]] = {
        "nemo_adapt": [sys.executable, __file__, "--child", corpus, folder, place / "ours"],
        "preprocess_data": [sys.executable, PEERS / "preprocess_data.py", *peer],
    }
    if python:
        commands["datasets.map"] = [python, PEERS / "datasets_map.py", corpus, folder, cache, prefix, end]
    best: dict[str, float] = {}
    hashes = set()
    for number in range(rounds):
        for name, command in commands.items():
            facts = measured(command, cache)
            best[name] = max(best.get(name, 0.0), size / 1e6 / float(facts["seconds"]))
            hashes.add(facts["ids"])
            rate = size / 1e6 / float(facts["seconds"])
            said = f"{facts['seconds']} s, {rate:.1f} MB/s, {facts['tokens']:,} tokens"
            print(f"{base}, round {number + 1}, {name}: {said}", flush=True)
    if len(hashes) > 1:
        raise SystemExit(f"{base}: the contestants do not give the same ids")
    ratios = [f"{best['nemo_adapt'] / rate:.2f}x {name} ({rate:.1f})" for name, rate in best.items()][1:]
    return f"{base}: {best['nemo_adapt']:.1f} MB/s, {', '.join(ratios)}"


def main() -> None:
    """Run the benchmark: write the corpus, run the contestants, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="13 MB, one round, one base")
    parser.add_argument("--mb", type=float, help="MB of text")
    parser.add_argument("--rounds", type=int, help="times that each contestant runs (default 3)")
    parser.add_argument("--bases", nargs="+", choices=BASES)
    parser.add_argument("--venv", type=Path, help="virtual environment of `datasets`; made if it is not there")
    parser.add_argument("--distinct", action="store_true", help="distinct words grow with the text")
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    python = arguments.venv.absolute() / "bin/python" if arguments.venv else None
    if python and not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", arguments.venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "datasets", "transformers"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        size = write_corpus(corpus, arguments.mb or (13 if arguments.quick else 100), arguments.distinct)
        print(f"corpus: {size / 1e6:.0f} MB of text; {cores()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"versions: {json.dumps(versions())}", flush=True)
        rounds = arguments.rounds or (1 if arguments.quick else 3)
        bases = arguments.bases or (BASES[:1] if arguments.quick else BASES)
        says = [contest(base, corpus, size, rounds, python, Path(folder)) for base in bases]
        print(f"summary: the same ids; {'; '.join(says)}")


if __name__ == "__main__":
    main()
