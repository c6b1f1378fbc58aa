"""Document boundaries equal those that Megatron's data set computes sample by sample."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from megatron.core.datasets.gpt_dataset import _get_ltor_masks_and_position_ids
from unit.tokenizer.tokenizer_samples import sentencepiece_base

from nemo_adapt import hf_tokenizer
from nemo_adapt.tokens import documents
from nemo_adapt.train.batches import Boundaries

END = 0
BATCHES = st.integers(1, 12).flatmap(
    lambda length: st.lists(
        st.lists(st.sampled_from([END, 1, 2, 3]), min_size=length, max_size=length), min_size=1, max_size=3
    )
)


@settings(max_examples=100)
@given(rows=BATCHES)
def test_masks_and_positions_equal_megatron_s(rows):
    tokens = torch.tensor(rows)
    found = Boundaries(END, True, True, True).batch(tokens, tokens)
    for number, row in enumerate(tokens):
        hidden, loss_mask, positions = _get_ltor_masks_and_position_ids(row, END, True, True, True, True)
        assert torch.equal(found.positions[number], positions)
        documents = found.documents[number]
        assert torch.equal((documents[:, None] == documents[None]).tril()[None], ~hidden)
        assert torch.equal(found.counted[number], loss_mask.bool())


def test_only_requested_masks_are_made():
    tokens = torch.tensor([[1, END, 2], [END, 1, 2]])
    found = Boundaries(END).batch(tokens, tokens)
    assert found.documents is None and found.counted is None and found.positions.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("adds_bos", [True, False])
def test_bytes_of_counted_labels_are_those_of_the_text(tmp_path, adds_bos):
    """Without BOS, the label at the end of a document is the next one's first token, with the space put before it."""
    folder = sentencepiece_base(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": adds_bos}))
    tokenizer = hf_tokenizer.load(folder)
    prefix, end = documents.training_prefix(tokenizer), documents.end_id(tokenizer)
    assert bool(prefix) == adds_bos and documents.added_bytes(tokenizer) == 1
    texts = ["the river is long", "a house", "it rains"]
    stream, size = [end], 0
    for text, ids in zip(texts, documents.encode(tokenizer, texts), strict=True):
        stream += [*prefix, *ids, end]
        first = 0 if adds_bos else documents.token_bytes(tokenizer)[ids[0]] - 1
        size += len(text.encode()) - first
    tokens, labels = torch.tensor(stream)[None, :-1], torch.tensor(stream)[None, 1:]
    counted = Boundaries(end, mask_ends=True).batch(tokens, labels).counted
    assert documents.training_bytes(tokenizer, masks_ends=True)[labels][counted].sum() == size
