"""The end-of-document rule in one place: where a document starts and ends, and how many bytes each token represents.

Training sees ``[BOS] document EOS`` (BOS only where the tokenizer adds one by itself and it is not also EOS). Scoring
sees ``start document``, where ``start`` is what precedes a document in training: BOS, or the previous document's EOS.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from nemo_adapt.errors import UserError
from nemo_adapt.hf_tokenizer import adds_bos
from nemo_adapt.hf_tokenizer.byte_level import BYTE_OF, SPACE

BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


def start_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the id that precedes a scored document, as in training: BOS where the tokenizer adds one, else EOS.

    BLOOM and XGLM have a BOS but were not trained with it before documents. ``UserError`` if there is neither.
    """
    return (training_prefix(tokenizer) or [end_id(tokenizer)])[0]


def end_id(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the id that ends a document in training: EOS if there is one, else BOS; ``UserError`` if neither."""
    return _first(tokenizer, tokenizer.eos_token_id, tokenizer.bos_token_id)


def encode(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text, without BOS and EOS; text that spells a special token is tokenized as plain text.

    Uses all cores for a long list (``RAYON_NUM_THREADS``, ``TOKENIZERS_PARALLELISM``).
    """
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(encoded["input_ids"])


def training_prefix(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return ``[BOS]`` where the tokenizer adds one by itself and it does not also end documents, else empty."""
    bos = tokenizer.bos_token_id
    return [bos] if bos != end_id(tokenizer) and adds_bos(tokenizer) else []


def vocabulary_size(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest id plus one: the number of rows that a model's tables need."""
    return max(tokenizer.get_vocab().values()) + 1


def rows_of_text(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the number of rows that documents need: special tokens that no document has do not count.

    Gemma 3 1B has a token for images in its tokenizer, whose id is beyond the rows of the model.
    """
    unused = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    unused -= {end_id(tokenizer), *training_prefix(tokenizer)}
    return max(number for number in tokenizer.get_vocab().values() if number not in unused) + 1


def token_contents(tokenizer: PreTrainedTokenizerFast) -> list[bytes]:
    """Return, by id, the UTF-8 bytes that the token contributes to a text; empty for special tokens and unused ids.

    A byte-level token contributes the bytes its characters represent, ``<0xNN>`` the byte NN, ``▁`` a space.
    """
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    kinds = _decoder_kinds(backend.get("decoder"))
    added = {token["id"]: token["special"] for token in backend["added_tokens"]}
    special = {number for number, is_special in added.items() if is_special} | set(tokenizer.all_special_ids)
    special |= {tokenizer.get_vocab().get(backend["model"].get("unk_token"), -1)}
    byte_of = BYTE_OF if "ByteLevel" in kinds else {}
    contents = [b""] * vocabulary_size(tokenizer)
    for token, number in tokenizer.get_vocab().items():
        if number in special:
            continue
        if byte_of and number not in added:
            contents[number] = b"".join(
                bytes([byte_of[char]]) if char in byte_of else char.encode("utf-8") for char in token
            )
        elif byte_of:
            contents[number] = token.encode("utf-8")
        elif "ByteFallback" in kinds and (piece := BYTE_PIECE.fullmatch(token)):
            contents[number] = bytes.fromhex(piece[1])
        else:
            contents[number] = token.replace(SPACE, " ").encode("utf-8")
    return contents


def token_bytes(tokenizer: PreTrainedTokenizerFast) -> NDArray[np.int32]:
    """Return, by id, how many UTF-8 bytes the token contributes to a text (``token_contents``).

    The sum over a document's ids is the length in bytes of the document as the tokenizer normalizes it, plus
    ``added_bytes``.
    """
    return np.array([len(content) for content in token_contents(tokenizer)], dtype=np.int32)


def training_bytes(tokenizer: PreTrainedTokenizerFast, masks_ends: bool = False) -> NDArray[np.int32]:
    """Return ``token_bytes``, but with ``-added_bytes`` for the end-of-document id.

    The sum over the ids of complete documents, as training sees them, is then the length in bytes of their normalized
    text: their own exact length unless the tokenizer's normalizer changes it, as NFC may (Qwen, Pythia).
    ``masks_ends``: the id after an end is not counted (``train.mask_document_ends``). Without BOS it is a document's
    first token, which has the added bytes, so that the end stands for none.
    """
    counts = token_bytes(tokenizer)
    counts[end_id(tokenizer)] = 0 if masks_ends and not training_prefix(tokenizer) else -added_bytes(tokenizer)
    return counts


def added_bytes(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the bytes that the tokenizer adds before each document: 1 for SentencePiece's dummy prefix, else 0."""
    counts = token_bytes(tokenizer)
    return max(0, int(counts[encode(tokenizer, ["a"])[0]].sum()) - 1)


def _first(tokenizer: PreTrainedTokenizerFast, *candidates: int | None) -> int:
    for candidate in candidates:
        if candidate is not None:
            return candidate
    raise UserError(
        f"{tokenizer.name_or_path or 'the tokenizer'}: no BOS and no EOS token, so documents cannot be told apart; "
        "set one in tokenizer_config.json"
    )


def _decoder_kinds(decoder: dict[str, Any] | None) -> set[str]:
    """Return the types of a ``tokenizer.json`` decoder and of its nested decoders."""
    if not decoder:
        return set()
    return {decoder["type"]}.union(*(_decoder_kinds(part) for part in decoder.get("decoders", [])))
