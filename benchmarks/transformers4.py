"""Compatibility with transformers 4, as reader and as writer: models of every family, and tokenizers.

    python benchmarks/transformers4.py --venv FOLDER [--tokens 1000]

FOLDER is a virtual environment with transformers 4; it is made there if it does not exist (a gigabyte).

Models: tiny random ones of every family, saved by transformers 4 and by 5; each is converted and exported. Tensors of
the exported folder must equal the saved ones bit by bit. transformers 4 reads the exported folder: its logits must
equal those of 4 on the folder that 4 saved, and be within 1e-5 of those of 5 on the folder that 5 saved.

Tokenizers: every base of the folder in NEMO_ADAPT_DATA (default ../shared/data), and two of them as saved by
transformers 4 and 5 with additional special tokens, get new Turkish and Hindi tokens. Both AutoTokenizers must give the
same ids, with and without special tokens, and the same decoded text on text/*.heldout.txt and FLORES-200 dev (six
languages), and have the same number of tokens, special tokens and chat template; sentencepiece must give the same ids
if there is a tokenizer.model.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from bridge import environment
from convert import run_export, run_import
from safetensors.torch import load_file

from nemo_adapt import families
from nemo_adapt.config import Config
from nemo_adapt.machine.facts import versions
from nemo_adapt.tokenizer import stage

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
PEER = Path(__file__).parent / "peers" / "hugging_face.py"
INSTALL = (["torch==2.13.0"], ["transformers<5", "sentencepiece", "protobuf"])
LANGUAGES = ("tr", "hi")
TOLERANCE = 1e-5
"""Tolerance of logits between versions of transformers, which sum in different orders."""
NEWER = ("ministral3", "jais2")
"""Families that transformers 4 does not have."""
SAVED = ("llama2", "gpt2")
"""Bases that are also extended after transformers has saved them."""


def peer(python: Path, *words: object) -> None:
    done = subprocess.run([str(word) for word in (python, PEER, *words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} with {python}: {done.stderr.strip()}")


def round_trip(saved: Path, exported: Path) -> None:
    """Convert and export every model of a folder."""
    for model in sorted(saved.iterdir()):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            shutil.copytree(model, place / "model")
            (place / "tokenizer").mkdir()
            vocab = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
            (place / "tokenizer/token_map.json").write_text(json.dumps({"source_vocab": vocab, "tokens": []}))
            run_import(place, 1)
            run_export(place, 1)
            shutil.copytree(place / "export", exported / model.name)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are alike; in one folder dtypes may differ (Apertus, as 4 saves it)."""
    views = [tensor.reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(*views)


def compare_tensors(saved: Path, exported: Path) -> int:
    """Compare the tensors bit by bit and return their number; exit at the first model that differs."""
    same = 0
    for model in sorted(saved.iterdir()):
        before, after = (load_file(folder / model.name / "model.safetensors") for folder in (saved, exported))
        if before.keys() != after.keys():
            raise SystemExit(f"{model.name}: tensors that only one has: {sorted(before.keys() ^ after.keys())}")
        unlike = [name for name in before if not same_bits(before[name], after[name])]
        if unlike:
            raise SystemExit(f"{model.name}: tensors that differ: {unlike}")
        same += len(before)
    return same


def farthest(before: Path, after: Path) -> dict[str, float]:
    """Return the largest difference of logits by model."""
    first, second = np.load(before, allow_pickle=False), np.load(after, allow_pickle=False)
    return {name: float(np.abs(first[name] - second[name]).max()) for name in first.files}


def compare_models(pythons: dict[int, Path], place: Path) -> list[str]:
    says = []
    for version, python in pythons.items():
        saved, exported = place / f"saved{version}", place / f"exported{version}"
        peer(python, "make", saved)
        missing = set(families.names()) - set(NEWER) - {path.name.split(",")[0].split()[0] for path in saved.iterdir()}
        if missing:
            raise SystemExit(f"no tiny model of {sorted(missing)}")
        round_trip(saved, exported)
        tensors = compare_tensors(saved, exported)
        peer(python, "logits", saved, place / f"saved{version}.npz")
        peer(pythons[4], "logits", exported, place / f"exported{version}.npz")
        far = farthest(place / f"saved{version}.npz", place / f"exported{version}.npz")
        for name, difference in far.items():
            print(
                f"{name}, saved by {version}: logits of the exported model in 4 differ by {difference:.2g}", flush=True
            )
        allowed = 0.0 if version == 4 else TOLERANCE
        wrong = [name for name, difference in far.items() if not difference <= allowed]
        if wrong:
            raise SystemExit(f"saved by transformers {version}: logits are not the same for {', '.join(wrong)}")
        says.append(
            f"saved by {version}: {len(far)} models, {tensors} tensors the same, logits {max(far.values()):.1g}"
        )
    return says


def save_bases(pythons: dict[int, Path], place: Path) -> None:
    """Save the bases ``SAVED`` with each transformers, with a chat template and special tokens without a role."""
    code = (
        "import sys; from transformers import PreTrainedTokenizerFast\n"
        "tokenizer = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])\n"
        "tokenizer.add_special_tokens({'additional_special_tokens': ['<|user|>', '<|end|>']})\n"
        "tokenizer.chat_template = '{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}'\n"
        "tokenizer.save_pretrained(sys.argv[2])"
    )
    for base in SAVED:
        plain = place / "plain" / base
        plain.mkdir(parents=True)
        config = Config()
        config.tokenizer.new_tokens = 0
        stage.build(config, {"base": [DATA / "tokenizers" / base]}, plain)
        for version, python in pythons.items():
            subprocess.run([python, "-c", code, plain, place / f"{base}, saved by {version}"], check=True)
    shutil.rmtree(place / "plain")


def compare_tokenizers(pythons: dict[int, Path], place: Path, tokens: int) -> str:
    (place / "bases").mkdir()
    save_bases(pythons, place / "bases")
    bases = sorted([*(DATA / "tokenizers").iterdir(), *(place / "bases").iterdir()])
    for base in bases:
        for language in LANGUAGES:
            config = Config()
            config.tokenizer.new_tokens = tokens
            (made := place / "extended" / f"{base.name}, {language}").mkdir(parents=True)
            stage.build(config, {"base": [base], "text": [DATA / "text" / f"{language}.train.txt"]}, made)
    files = [*sorted((DATA / "text").glob("*.heldout.txt")), *sorted((DATA / "parallel/flores200-dev").glob("*.txt"))]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]
    (place / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    for version, python in pythons.items():
        (place / f"texts{version}").mkdir()
        peer(python, "texts", place / "extended", place / "lines.txt", place / f"texts{version}")
    pieces = 0
    wrong = []
    for folder in sorted((place / "extended").iterdir()):
        four, five = (json.loads((place / f"texts{v}/{folder.name}.json").read_text(encoding="utf-8")) for v in (4, 5))
        unlike = {key: four[key] != five[key] for key in ("tokens", "special", "template")}
        unlike |= {
            key: sum(a != b for a, b in zip(four[key], five[key], strict=True)) for key in ("ids", "bare", "decoded")
        }
        if (folder / "tokenizer.model").is_file():
            model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            unlike["sentencepiece"] = sum(a != b for a, b in zip(five["bare"], model.encode(lines), strict=True))
            pieces += 1
        wrong += [folder.name] * any(unlike.values())
        print(f"{folder.name}: {', '.join(f'{key} {int(value)}' for key, value in unlike.items())} differ", flush=True)
    if wrong:
        raise SystemExit(f"tokenizers that are not the same: {', '.join(wrong)}")
    made = len(bases) * len(LANGUAGES)
    return f"{made} tokenizers, {len(lines):,} lines: the same in both, {pieces} of them as sentencepiece"


def main() -> None:
    """Run the benchmark: models, then tokenizers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without tokenizers")
    parser.add_argument("--venv", type=Path, help="virtual environment with transformers 4; made if it is not there")
    parser.add_argument("--tokens", type=int, default=1_000, help="new tokens of each tokenizer")
    arguments = parser.parse_args()
    if not arguments.venv:
        print("summary: nothing compared: name a virtual environment for transformers 4 with --venv")
        return
    pythons = {4: environment(arguments.venv, INSTALL), 5: Path(sys.executable)}
    theirs = subprocess.run(
        [pythons[4], "-c", "import transformers, tokenizers; print(transformers.__version__, tokenizers.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    print(
        f"versions: {json.dumps(versions())}; the other's: transformers {theirs[0]}, tokenizers {theirs[1]}", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        says = compare_models(pythons, Path(folder))
        if not arguments.quick:
            says.append(compare_tokenizers(pythons, Path(folder), arguments.tokens))
    print(f"summary: {'; '.join(says)}")


if __name__ == "__main__":
    main()
