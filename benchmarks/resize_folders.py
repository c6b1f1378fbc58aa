"""New rows from folder to folder: `nemo-adapt resize-hf` against mergekit-tokensurgeon and deepfocus.

    python benchmarks/resize_folders.py [--quick] [--mergekit VENV] [--deepfocus VENV] [--tokens N] [--columns N]

Each peer must be installed in the virtual environment given for it. The base is a Llama in bf16 of one layer with the
real Llama-2 tokenizer (data: the folder in NEMO_ADAPT_DATA, default ../shared/data), which is extended by Turkish
tokens before anything is timed. Seconds are of the entire command, peak memory of its largest process:

- `mergekit`: two tables; `mergekit-tokensurgeon` with its `subword` method and a donor model with the new tokenizer;
- `deepfocus`: one table; its `FOCUS` on the same text, with its defaults. nemo_adapt's time is of two commands,
  `auxiliary` (fastText vectors) and `resize-hf`; its fastText uses one core, to be reproducible, theirs uses all.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from nemo_adapt.machine.facts import versions
from nemo_adapt.tokens.token_map import TokenMap

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data")).absolute()
NEMO_ADAPT = (sys.executable, "-m", "nemo_adapt")
WATCH = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)\n"
    "sys.exit(code)\n"
)
"""Program that runs a command and prints the peak memory of its largest process in MiB."""
DEEPFOCUS = (
    "import sys, torch\n"
    "from deepfocus import FOCUS\n"
    "from safetensors.torch import load_file, save_file\n"
    "from transformers import AutoTokenizer\n"
    "base, extended, text, out = sys.argv[1:]\n"
    "name = 'model.embed_tokens.weight'\n"
    "source, target = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(extended)\n"
    "table = load_file(base + '/model.safetensors')[name].float()\n"
    "made = FOCUS(target, source, table, target_training_data_path=text)\n"
    "assert made.shape[0] == len(target)\n"
    "save_file({name: made.bfloat16()}, out)\n"
)
"""Program of a deepfocus user, with its defaults: fastText of 100 dimensions, 3 epochs."""


def run(command: list[object], limit: float, place: Path) -> tuple[float, int] | str:
    """Return seconds and peak MiB of one command, or the error if it failed."""
    began = time.perf_counter()
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(place / "cache")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", WATCH, *map(str, command)],
            capture_output=True, text=True, check=False, timeout=limit, env=quiet, cwd=place,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done in {limit:.0f} s"
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1:]}"
    return time.perf_counter() - began, int(done.stdout.splitlines()[-1])


def extended(place: Path, tokens: int) -> Path:
    """Make the run folder of a base that is only a tokenizer, with the extended tokenizer; return it."""
    write_model(place / "bare", 32_000, 64, DATA / "tokenizers/llama2", tied=True)
    words = [*of_run(place, place / "bare"), f"tokenizer.new_tokens={tokens}"]
    subprocess.run([*NEMO_ADAPT, "tokenizer", *map(str, words)], check=True, capture_output=True, cwd=place)
    return place / "run"


def of_run(place: Path, base: Path) -> list[object]:
    text = DATA / "text/tr.train.txt"
    return ["recipe=blank", f"run.dir={place}", "run.name=run", f"model.path={base}", f"tokenizer.text=[{text}]",
            f"data.target=[{text}]", "resize.input=focus"]  # fmt: skip


def write_model(folder: Path, rows: int, columns: int, tokenizer: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=rows, hidden_size=columns, num_hidden_layers=1, intermediate_size=64, num_attention_heads=8,
        num_key_value_heads=1, tie_word_embeddings=tied, dtype=torch.bfloat16,
    )  # fmt: skip
    LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    for file in tokenizer.iterdir():
        if file.is_file() and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def resize(base: Path, tokenizer: Path, out: Path, *words: str) -> list[object]:
    return [*NEMO_ADAPT, "resize-hf", f"model={base}", f"tokenizer={tokenizer}", f"out={out}", *words]


def against_mergekit(venv: Path, place: Path, tokenizer: Path, columns: int, limit: float) -> dict[str, object]:
    base, donor = place / "untied", place / "donor"
    write_model(base, 32_000, columns, DATA / "tokenizers/llama2", tied=False)
    write_model(donor, TokenMap.load(tokenizer).target_vocab, columns, tokenizer, tied=False)
    surgeon = [venv / "bin/mergekit-tokensurgeon", base, donor, place / "theirs", "--approximation-method", "subword"]
    return {
        "nemo_adapt, subword_mean": run(resize(base, tokenizer, place / "ours"), limit, place),
        "mergekit-tokensurgeon, subword": run(surgeon, limit, place),
    }


def against_deepfocus(venv: Path, place: Path, tokenizer: Path, columns: int, limit: float) -> dict[str, object]:
    base, auxiliary = place / "tied", tokenizer.parent / "auxiliary"
    write_model(base, 32_000, columns, DATA / "tokenizers/llama2", tied=True)
    vectors = run([*NEMO_ADAPT, "auxiliary", *of_run(place, place / "bare")], limit, place)
    mixed = run(resize(base, tokenizer, place / "focus", "resize.input=focus", f"auxiliary={auxiliary}"), limit, place)
    theirs = [venv / "bin/python", "-c", DEEPFOCUS, base, tokenizer, DATA / "text/tr.train.txt", place / "deepfocus.st"]
    whole = (vectors[0] + mixed[0], max(vectors[1], mixed[1])) if type(vectors) is type(mixed) is tuple else mixed
    return {
        "nemo_adapt, focus": whole,
        "of which vectors": vectors,
        "of which rows": mixed,
        "deepfocus, FOCUS": run(theirs, limit, place),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 tokens, 256 columns")
    parser.add_argument("--mergekit", type=Path, help="virtual environment in which mergekit is installed")
    parser.add_argument("--deepfocus", type=Path, help="virtual environment in which deepfocus is installed")
    parser.add_argument("--tokens", type=int, default=None, help="new tokens (default 10,000)")
    parser.add_argument("--columns", type=int, default=None, help="hidden size (default 4,096)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds that one command may take")
    arguments = parser.parse_args()
    if not (DATA / "tokenizers/llama2").is_dir():
        raise SystemExit("needs the real tokenizers in NEMO_ADAPT_DATA")
    tokens = arguments.tokens or (1_000 if arguments.quick else 10_000)
    columns = arguments.columns or (256 if arguments.quick else 4_096)
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tokenizer = extended(place, tokens) / "tokenizer"
        for venv, against in ((arguments.mergekit, against_mergekit), (arguments.deepfocus, against_deepfocus)):
            if venv:
                found |= against(venv.absolute(), place, tokenizer, columns, arguments.limit)
    for name, facts in found.items():
        print(f"{name}: " + (facts if isinstance(facts, str) else f"{facts[0]:.1f} s, {facts[1]:,} MiB"))
    print(f"summary: 32,000 rows and {tokens:,} new, {columns:,} columns; compared: {', '.join(found) or 'nothing'}")


if __name__ == "__main__":
    main()
