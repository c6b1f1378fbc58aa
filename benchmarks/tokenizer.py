"""Learning new tokens: nemo_adapt against sentencepiece and transformers, seconds and memory on the same text.

    python benchmarks/tokenizer.py [--quick] [--mb N] [--tokens N] [--max-words N] [--keep FOLDER] [--contestants A B]

The corpus (200 MB, `--quick` 20 MB) is made by repeating the words of real Turkish text and changing letters in some,
at such a rate that distinct words grow with the text as `types = K * words ** 0.7` (Heaps' law, K from the real text);
the exponent of the real text is printed beside that of the corpus. Without real data the words are the small world's.
Each contestant runs in its own process, one after the other; its peak resident memory is read at its end (for
nemo_adapt an upper bound: its own, plus that of its largest child times the number of other cores):

- `nemo_adapt`: the tokenizer stage on a Llama-2-like base (the real one if there is data), from counting to the saved
  folder; `heldout_tokens` is the length of the real held-out text with it (`--max-words`: `tokenizer.max_words`);
- `sentencepiece`: SentencePieceTrainer, BPE, as many pieces as the stage adds plus the alphabet, all cores;
- `transformers`: `train_new_from_iterator` of the same base, same size.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from nemo_adapt.corpora import text
from nemo_adapt.hf_tokenizer.byte_level import SPACE
from nemo_adapt.machine.facts import versions
from nemo_adapt.machine.workers import cores

DATA = Path(os.environ.get("NEMO_ADAPT_DATA", "../shared/data"))
HEAPS = 0.7
"""Target exponent: the rate of new words at the n-th word is proportional to n ** (HEAPS - 1)."""
LINE_WORDS = 14
ALPHABET = "abcçdefgğhıijklmnoöprsştuüvyz"
CONTESTANTS = ("nemo_adapt", "sentencepiece", "transformers")


def real_words() -> list[str]:
    """Return the words of real text in order; without real data, those of the small world."""
    path = DATA / "text/tr.train.txt"
    if path.is_file():
        return path.read_text(encoding="utf-8").split()
    from nemo_adapt.smallworld.make import make

    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
        return (Path(place) / "text/tr.train.txt").read_text(encoding="utf-8").split()


def heaps_exponent(words: list[str]) -> float:
    """Return the slope of log types over log words between a tenth of a text and all of it."""
    tenth = len(words) // 10
    return math.log10(len(set(words)) / len(set(words[:tenth]))) / math.log10(len(words) / tenth)


def make_corpus(path: Path, megabytes: float, words: list[str]) -> dict[str, float]:
    """Write the corpus; return its statistics. New words are words of the text with one to three letters changed."""
    draw = random.Random(1)
    scale = len(set(words)) / len(words) ** HEAPS
    types: set[str] = set()
    pool = list(words)
    count = size = 0
    tenth: tuple[int, int] = (0, 0)
    with path.open("w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            line = [pool[int(draw.random() * len(pool))] for _ in range(LINE_WORDS)]
            due = scale * count**HEAPS - len(types)
            for place in range(min(LINE_WORDS, max(0, int(due)))):
                line[place] = changed(line[place], draw)
                pool.append(line[place])  # new words recur, as in real text
            types.update(line)
            count += LINE_WORDS
            written = " ".join(line) + "\n"
            size += len(written.encode())
            out.write(written)
            if not tenth[0] and size >= megabytes * 1e5:
                tenth = (count, len(types))
    exponent = math.log(len(types) / tenth[1]) / math.log(count / tenth[0])
    return {"bytes": size, "words": count, "types": len(types), "heaps_exponent": round(exponent, 3)}


def kept_corpus(path: Path, megabytes: float, words: list[str]) -> dict[str, float]:
    """Make the corpus unless it exists; return its statistics, which are kept beside it."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(make_corpus(path, megabytes, words)))
    return json.loads(beside.read_text())


def changed(word: str, draw: random.Random) -> str:
    letters = list(word)
    for _ in range(draw.randint(1, 3)):
        letters[int(draw.random() * len(letters))] = draw.choice(ALPHABET)
    return "".join(letters)


def write_base(folder: Path) -> Path:
    """Write the base tokenizer: Llama-2's, or one trained like it on the small world's English; return the folder."""
    real = DATA / "tokenizers/llama2"
    if real.is_dir():
        return real
    import sentencepiece

    lines = [" ".join(islice(iter(real_words()[i : i + 12]), 12)) for i in range(0, 20_000, 12)]
    folder.mkdir()
    with (folder / "tokenizer.model").open("wb") as out:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(lines), model_writer=out, model_type="bpe", vocab_size=500, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, minloglevel=2,
        )  # fmt: skip
    return folder


def run_nemo_adapt(corpus: Path, base: Path, tokens: int, out: Path, max_words: int | None) -> dict[str, object]:
    from nemo_adapt.config import Config
    from nemo_adapt.tokenizer.stage import build

    config = Config()
    config.tokenizer.new_tokens = tokens
    config.tokenizer.max_words = max_words or config.tokenizer.max_words
    out.mkdir()
    build(config, {"base": [base], "text": [corpus]}, out)
    report = json.loads((out / "learn.json").read_text())
    return {"added": report["added"], "steps": report["seconds"]}


def heldout_tokens(folder: Path) -> int | None:
    """Return the number of tokens of the real held-out text; ``None`` without real data."""
    from nemo_adapt import hf_tokenizer

    path = DATA / "text/tr.heldout.txt"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    encoded = hf_tokenizer.load(folder).backend_tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encoded)


def run_sentencepiece(corpus: Path, base: Path, tokens: int, out: Path) -> dict[str, object]:
    import sentencepiece

    alphabet = {character for line in islice(lines_of(corpus), 200_000) for character in line}
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus), model_prefix=str(out), model_type="bpe", vocab_size=tokens + len(alphabet) + 260,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        character_coverage=1.0, num_threads=os.cpu_count() or 1, train_extremely_large_corpus=True,
        input_sentence_size=0, max_sentence_length=1 << 20, minloglevel=2,
    )  # fmt: skip
    return {"vocab": sentencepiece.SentencePieceProcessor(model_file=f"{out}.model").get_piece_size()}


def run_transformers(corpus: Path, base: Path, tokens: int, out: Path) -> dict[str, object]:
    from tokenizers.pre_tokenizers import Split

    from nemo_adapt import hf_tokenizer

    tokenizer = hf_tokenizer.load(base)
    # A Llama-2 tokenizer has no pre-tokenizer: entire lines would be words, and memory would grow without bound.
    tokenizer.backend_tokenizer.pre_tokenizer = Split(SPACE, "merged_with_next")
    trained = tokenizer.train_new_from_iterator(text.batches(lines_of(corpus), 1000), tokens + 600)
    return {"vocab": len(trained)}


def lines_of(corpus: Path) -> Iterator[str]:
    with corpus.open(encoding="utf-8") as stream:
        yield from stream


def child(name: str, arguments: argparse.Namespace) -> None:
    """Run one contestant in this process and print its measurements as the last line."""
    ours = functools.partial(run_nemo_adapt, max_words=arguments.max_words)
    run = {"nemo_adapt": ours, "sentencepiece": run_sentencepiece, "transformers": run_transformers}[name]
    began = time.monotonic()
    facts = run(Path(arguments.corpus), Path(arguments.base), arguments.tokens, Path(arguments.out))
    peak = [resource.getrusage(kind).ru_maxrss / 1024 for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = round(time.monotonic() - began, 1)
    total = peak[0] + peak[1] * (cores() - 1 if name == "nemo_adapt" else 0)
    if name == "nemo_adapt":
        facts["heldout_tokens"] = heldout_tokens(Path(arguments.out))
    print(json.dumps({"seconds": seconds, "mib": round(total), "largest_child_mib": round(peak[1]), **facts}))


def contest(name: str, given: dict[str, object], limit: float) -> dict[str, object] | None:
    """Return one contestant's measurements; ``None`` if it did not finish in ``limit`` seconds or failed."""
    command = [sys.executable, __file__, f"--child={name}", *(f"--{key}={value}" for key, value in given.items())]
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        print(f"{name} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        return None
    print(f"{name} did not finish in {limit:.0f} s")
    return None


def main() -> None:
    """Run the benchmark: make the corpus, run each contestant, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 MB and 2,000 tokens")
    parser.add_argument("--mb", type=float, default=None, help="size of the corpus in MB (default 200)")
    parser.add_argument("--tokens", type=int, default=None, help="new tokens (default 10,000)")
    parser.add_argument("--max-words", type=int, default=None, help="tokenizer.max_words of nemo_adapt")
    parser.add_argument("--limit", type=float, default=7200, help="seconds that one contestant may take")
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS)
    parser.add_argument("--keep", help="folder where the corpus stays, to be used again")
    for hidden in ("--child", "--corpus", "--base", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return
    megabytes = arguments.mb or (20 if arguments.quick else 200)
    tokens = arguments.tokens or (2_000 if arguments.quick else 10_000)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        words = real_words()
        corpus = Path(arguments.keep or place) / f"corpus_{megabytes:.0f}.txt"
        facts = kept_corpus(corpus, megabytes, words)
        print(
            f"corpus: {facts['bytes'] / 1e6:.0f} MB, {facts['words']:,} words, {facts['types']:,} types, "
            f"Heaps exponent {facts['heaps_exponent']} (the real text's own: {heaps_exponent(words):.3f})"
        )
        given = {"corpus": corpus, "base": write_base(place / "base"), "tokens": tokens}
        if arguments.max_words:
            given["max-words"] = arguments.max_words
        found = {
            name: contest(name, {**given, "out": place / f"out_{name}"}, arguments.limit)
            for name in arguments.contestants
        }
    print(f"versions: {json.dumps(versions())}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, facts_of in found.items():
        print(f"{name}: {json.dumps(facts_of)}")
    ours = found.get("nemo_adapt")
    if ours is None:
        raise SystemExit("nemo_adapt did not finish")
    ratios = [
        f"{name} {other['seconds'] / ours['seconds']:.2f}x the time, {other['mib'] / ours['mib']:.2f}x the memory"
        for name, other in found.items()
        if other is not None and name != "nemo_adapt"
    ]
    print(
        f"summary: {megabytes:.0f} MB, {tokens:,} tokens: nemo_adapt {ours['seconds']} s and "
        f"{ours['mib']} MiB; {'; '.join(ratios)}"
    )


if __name__ == "__main__":
    main()
