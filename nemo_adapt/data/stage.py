"""Tokenize one set of text files into a Megatron indexed dataset (.bin/.idx).

Documents are not split, and end as ``tokens.documents`` defines. Several processes share the files; the order of the
documents is that of the files, whichever process encoded them.

Imports are light because every worker process imports this module when it starts.
"""

import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from nemo_adapt.config import Config
from nemo_adapt.console.progress import Bar, OnProgress
from nemo_adapt.corpora import text
from nemo_adapt.corpora.lines import Part
from nemo_adapt.corpora.mixture import COUNTS, check_documents
from nemo_adapt.data import store
from nemo_adapt.data.check import check
from nemo_adapt.data.encode import Encoder, Rule
from nemo_adapt.files import write_json
from nemo_adapt.machine.workers import cores, share, shared_counters
from nemo_adapt.partition import filled
from nemo_adapt.run.inputs import Inputs

ALONE_BYTES = 8 << 20
"""Text up to this size is tokenized by this process alone: starting workers takes longer."""
BATCH_CHARACTERS = 1 << 19
"""A batch of documents is full once it has this many characters."""
PIECES = "pieces"
RUST_THREADS = "TOKENIZERS_PARALLELISM"


def build(config: Config, inputs: Inputs, out: Path) -> dict[str, int] | None:
    """Write ``SET.bin``, ``SET.idx`` and ``counts.json`` for ``inputs["text"]`` with ``inputs["tokenizer"]``.

    SET is the name of the folder. ``data.processes`` processes share the work; the result does not depend on their
    number. counts.json has the numbers of documents, of tokens (BOS and EOS included) and of bytes of text. Parts of
    files that an interrupted start has encoded are kept. ``UserError`` for text that cannot be read, for a file without
    a document, and for too many documents. Returns the number of processes, for the manifest, unless an earlier start
    did the work.
    """
    name, files = out.name.removesuffix(".partial"), inputs["text"]
    pieces = out / PIECES
    if (out / COUNTS).is_file():  # interrupted at its very end
        shutil.rmtree(pieces, ignore_errors=True)
        return None
    check(config, inputs)
    rule = rule_of(inputs["tokenizer"][0])
    size = text.total_bytes(files)
    processes = config.data.processes or (1 if size <= ALONE_BYTES else cores())
    parts = _parts(files, processes, pieces)
    used = min(processes, len(parts))
    given = (rule, parts, config.data.text_field, pieces)
    with Bar(f"tokenizing {name}", size / 1e6, "MB") as bar, _one_thread_each(used):
        answers = share(len(parts), used, bar, partial(encode_parts, *given), _encode_share, *given)
    counts = {number: found for answer in answers for number, found in answer.items()}
    text.check_found(parts, {number: found["documents"] for number, found in counts.items()})
    place = {path: number for number, path in enumerate(files)}
    order = sorted(counts, key=lambda number: (place[parts[number].path], parts[number].index))
    total = {key: sum(found[key] for found in counts.values()) for key in ("documents", "tokens", "bytes")}
    check_documents(name, total["documents"])
    dtype = np.dtype(rule.typecode).type
    with Bar(f"joining {name}", total["tokens"] * dtype().itemsize / 1e6, "MB") as bar:
        store.join(pieces, order, out / name, dtype, lambda amount: bar.advance(amount / 1e6))
    write_json(out / COUNTS, total)
    shutil.rmtree(pieces)
    return {"processes": used}


def _parts(files: list[Path], processes: int, pieces: Path) -> list[Part]:
    """Return the parts of the files, and make the folder ``pieces``: those that an interrupted start had made, with
    however many processes, so that its pieces fit."""
    note = pieces / "parts.json"
    if not note.is_file():
        found, place = text.parts(files, processes), {path: number for number, path in enumerate(files)}
        pieces.mkdir(exist_ok=True)
        write_json(note, [[place[part.path], part.index, part.of] for part in found])
    return [Part(files[number], index, of) for number, index, of in json.loads(note.read_text(encoding="utf-8"))]


def rule_of(folder: Path) -> Rule:
    """Return how the tokenizer in ``folder`` encodes documents."""
    from nemo_adapt import hf_tokenizer
    from nemo_adapt.data import word_boundaries
    from nemo_adapt.tokens import documents

    tokenizer = hf_tokenizer.load(folder)
    backend = tokenizer.backend_tokenizer.to_str()
    content = json.loads(backend)
    return Rule(
        tokenizer=backend,
        typecode=np.dtype(store.token_dtype(documents.vocabulary_size(tokenizer))).char,
        prefix=tuple(documents.training_prefix(tokenizer)),
        end=documents.end_id(tokenizer),
        space=word_boundaries.space_of(content),
        space_first=word_boundaries.space_first(content),
        added_tokens=tuple(word_boundaries.added_tokens(content)),
    )


def encode_parts(
    rule: Rule, parts: list[Part], field: str, pieces: Path, numbers: Iterable[int], on_progress: OnProgress
) -> dict[int, dict[str, int]]:
    """Encode the parts ``numbers`` in this process, each to its own files in the folder ``pieces``.

    Return the counts of each part: documents, tokens, bytes. ``on_progress`` gets MB of input as they are read.
    """
    encoder = Encoder(rule)
    return {
        number: _encode_part(encoder, parts[number], field, pieces, number, lambda amount: on_progress(amount / 1e6))
        for number in numbers
    }


def _encode_share(rule: Rule, parts: list[Part], field: str, pieces: Path) -> dict[int, dict[str, int]]:
    """Encode parts in a worker process, which takes their numbers from the shared counter."""
    shared = shared_counters()
    return encode_parts(rule, parts, field, pieces, shared.take(len(parts)), shared.advance)


def _encode_part(
    encoder: Encoder, part: Part, field: str, pieces: Path, number: int, on_progress: OnProgress
) -> dict[str, int]:
    """Encode a part into its piece, unless an interrupted start has; return its counts."""
    if store.has_piece(pieces, number):
        on_progress(part.path.stat().st_size / part.of)
        return store.counts(pieces, number)
    width, lengths, size = array(encoder.rule.typecode).itemsize, array("i"), 0
    with (pieces / store.TOKENS.format(number)).open("wb") as out:
        for batch in filled(text.part_documents(part, field, on_progress), len, BATCH_CHARACTERS):
            found = encoder.encode(batch)
            out.write(b"".join(found))
            lengths.extend([len(ids) // width for ids in found])
            size += len("".join(batch).encode())
        if size:
            out.flush()
            os.fsync(out.fileno())
    store.write_note(pieces, number, lengths, size)
    return store.counts(pieces, number)


@contextmanager
def _one_thread_each(processes: int) -> Iterator[None]:
    """Context in which several processes encode with one thread each; a single one uses all cores."""
    before = os.environ.get(RUST_THREADS)
    if processes > 1:
        os.environ[RUST_THREADS] = "false"
    try:
        yield
    finally:
        if processes > 1:
            os.environ.pop(RUST_THREADS)
            os.environ.update({RUST_THREADS: before} if before is not None else {})
