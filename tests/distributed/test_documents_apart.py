"""With positions and attention reset at boundaries, a packed document has the logits that it has by itself."""

import json
import math

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders, folders_of
from helpers.tiny import TinyLlama, converted, make_token_map, tiny_config
from ranks import boundary_bodies, training_bodies

from nemo_adapt.config import PhaseConfig

LAYOUTS = {"one rank": {}, "TP 2, sequence": {"tp": 2, "sequence": True}, "PP 2": {"pp": 2}, "CP 2": {"cp": 2}}
KINDS = ["llama", "mistral", "gemma2", "gemma3", "smollm3", "gpt2", "bloom", "xglm", "phi", "cohere2"]
"""Rotary positions; window; window, capped scores; two kinds of rotary positions; layers without
positions; learned positions; ALiBi; sinusoidal positions; SideBySideLayer; this with windows."""
END = 2
LENGTHS = (6, 14, 20)


@pytest.fixture(scope="module", params=KINDS)
def folders(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    folder = zoo.make(place / "model", request.param)
    make_token_map(place / "tokenizer", zoo.VOCAB, 0)
    return Folders(folder, converted(folder, place / "convert"), place / "tokenizer")


def samples(*ends):
    """Return one sample per list of positions at which documents end."""
    ids = torch.randint(3, zoo.VOCAB, (len(ends), sum(LENGTHS)), generator=torch.Generator().manual_seed(5))
    for row, positions in zip(ids, ends, strict=True):
        row[list(positions)] = END
    return ids


SAME = (5, 19, 39)


def config(layout, positions=True, attention=True):
    made = tiny_config(**layout)
    made.train.reset_positions, made.train.reset_attention = positions, attention
    return made


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_packed_logits_equal_those_of_each_document_by_itself(folders, ranks, layout):
    size = math.prod(layout.get(name, 1) for name in ("tp", "pp", "cp"))
    answers = ranks(size).run(boundary_bodies.packed_and_alone, config(layout), folders, samples(SAME, SAME), END)
    found = [answer for answer in answers if answer.packed is not None]
    assert found
    for answer in found:
        real = slice(0, zoo.VOCAB)  # padded logits are minus infinity
        torch.testing.assert_close(answer.packed[..., real], answer.alone[..., real], rtol=0, atol=1e-5)


def test_each_sample_of_a_batch_has_its_own_document_boundaries(folders, ranks):
    ids = samples((5, 19), (0, 30, 31), ())
    [answer] = ranks(1).run(boundary_bodies.packed_one_by_one, config({}), folders, ids, END)
    torch.testing.assert_close(answer.packed[..., : zoo.VOCAB], answer.alone[..., : zoo.VOCAB], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positions", "attention"), [(False, False), (True, False), (False, True)])
def test_check_detects_attention_or_positions_that_are_not_reset(folders, ranks, positions, attention):
    """Negative control: both are needed, except that relative positions need no reset if attention is reset."""
    [answer] = ranks(1).run(
        boundary_bodies.packed_and_alone, config({}, positions, attention), folders, samples(SAME), END
    )
    difference = (answer.packed - answer.alone)[..., : zoo.VOCAB].abs().amax(-1)[0]
    kind = json.loads((folders.model / "config.json").read_text())["model_type"]
    relative = attention and kind not in ("gpt2", "xglm")
    assert difference[: LENGTHS[0]].max() < 1e-5
    assert difference[LENGTHS[0] :].max() < 1e-4 if relative else difference[LENGTHS[0] :].max() > 1e-3


def test_rotary_embedding_follows_reset_positions(tmp_path, ranks):
    """Without the attention mask, reset positions change how a later document attends to an earlier one."""
    tiny = TinyLlama(vocab=250)
    folders = folders_of(tmp_path, tiny)
    ids = samples(SAME)
    [continued] = ranks(1).run(boundary_bodies.packed_and_alone, config({}, False, False), folders, ids, END)
    [reset] = ranks(1).run(boundary_bodies.packed_and_alone, config({}, True, False), folders, ids, END)
    difference = (continued.packed - reset.packed)[..., :250].abs().amax(-1)[0]
    assert difference[: LENGTHS[0]].max() == 0 and difference[LENGTHS[0] :].min() > 1e-5


def training_config(micro_batch=2, **parallel):
    made = tiny_config(**parallel)
    made.train.global_batch, made.train.micro_batch, made.train.seq_length = 8, micro_batch, training_bodies.SEQ
    made.train.phases = [PhaseConfig(steps=3, lr=1e-2)]
    made.train.reset_positions = made.train.reset_attention = made.train.mask_document_ends = True
    return made


def test_losses_with_masked_document_ends_are_the_same_in_every_layout(tmp_path, ranks):
    """Micro batches hold different numbers of document ends: averaging within each would depend on the layout. The
    middle one of three stages needs to know where documents end."""
    tiny = TinyLlama(vocab=250, layers=3)
    folders = folders_of(tmp_path, tiny, new=6)
    arguments = (folders, tiny.vocab + 6)
    reference = ranks(1).run(training_bodies.train, training_config(), *arguments)[0]
    plain = training_config()
    plain.train.mask_document_ends = False
    assert ranks(1).run(training_bodies.train, plain, *arguments)[0].losses != reference.losses
    for changed in ({"micro_batch": 1}, {"dp": 2}, {"pp": 3}, {"tp": 2, "sequence": True}, {"cp": 2}):
        made = training_config(**changed)
        for result in ranks(made.parallel.ranks).run(training_bodies.train, made, *arguments):
            torch.testing.assert_close(result.losses, reference.losses, rtol=0, atol=1e-5)
            torch.testing.assert_close(result.grad_norms, reference.grad_norms, rtol=1e-4, atol=0)
