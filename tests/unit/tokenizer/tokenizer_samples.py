"""Small bases, texts and the real data for the tokenizer tests."""

import io
import os
import random
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from nemo_adapt.config import Config
from nemo_adapt.tokenizer.stage import build

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / os.environ.get("NEMO_ADAPT_DATA", "../shared/data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="NEMO_ADAPT_DATA names no folder")
ENGLISH = [
    *("the", "old", "house", "near", "the", "river", "was", "sold", "to", "a", "young", "man"),
    *("who", "works", "in", "the", "city", "and", "sings", "in", "the", "evening"),
]
STEMS = [
    *("ev", "kış", "çiçek", "güneş", "yağmur", "öğret", "şehir", "ağaç"),
    *("घर", "पानी", "किताब", "नदी", "सूरज", "क्षेत्र"),
]
ENDS = ["", "ler", "de", "den", "lerin", "ımız", "ों", "में", "की", "."]


def lines(words: list[str], ends: list[str], count: int, seed: int) -> list[str]:
    """``count`` deterministic lines of words with endings, the first ones most often."""
    draw = random.Random(seed)

    def word() -> str:
        return words[int(len(words) * draw.random() ** 2)] + ends[int(len(ends) * draw.random() ** 2)]

    return [" ".join(word() for _ in range(draw.randint(3, 12))) for _ in range(count)]


def english(count: int = 300) -> list[str]:
    return lines(ENGLISH, ["", "s", ",", "."], count, seed=1)


def target(count: int = 600) -> list[str]:
    return lines(STEMS, ENDS, count, seed=2)


def write(path: Path, content: list[str]) -> Path:
    path.write_text("\n".join(content) + "\n", encoding="utf-8")
    return path


def sentencepiece_base(folder: Path, **options: object) -> Path:
    """A folder with a SentencePiece ``tokenizer.model`` trained on a little English; ``options`` replace Llama's."""
    model = io.BytesIO()
    llama = {
        "model_type": "bpe",
        "vocab_size": 350,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
        "character_coverage": 1.0,
    }
    settings = {**llama, **options}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(english()), model_writer=model, minloglevel=2, **settings
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


def byte_level_base(folder: Path) -> Path:
    """A folder with a byte-level ``tokenizer.json`` whose added tokens follow the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(english(), trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|pad|>"])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def extend(
    base: Path,
    out: Path,
    text: list[Path],
    new_tokens: int,
    method: str = "continue",
    guard: list[Path] = (),  # type: ignore[assignment]
    guard_share: float = 0.005,
    parallel: dict[str, Path] | None = None,
    **settings: object,
) -> Path:
    """Run the tokenizer stage; its output is the new folder ``out``."""
    config = Config()
    config.tokenizer.new_tokens = new_tokens
    config.tokenizer.method = method
    config.tokenizer.guard_share = guard_share
    config.tokenizer.parallel = {language: str(path) for language, path in (parallel or {}).items()}
    for key, value in settings.items():
        setattr(config.tokenizer, key, value)
    inputs = {"base": [base], "text": list(text), "guard": list(guard)}
    inputs |= {f"parallel.{language}": [path] for language, path in (parallel or {}).items()}
    out.mkdir(parents=True)
    build(config, inputs, out)
    return out
