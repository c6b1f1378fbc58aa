"""The family defined in docs/add-a-model.md works."""

import re
from pathlib import Path

import pytest
import torch
from helpers import zoo
from helpers.folders import Folders
from helpers.tiny import converted, make_token_map, tiny_config
from ranks import family_bodies
from safetensors.torch import load_file
from transformers import StableLmConfig

from nemo_adapt import families
from nemo_adapt.config import ExportConfig
from nemo_adapt.export import export_checkpoint

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-model.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
IDS = torch.randint(3, zoo.VOCAB, (2, 33), generator=torch.Generator().manual_seed(1))


def test_family_of_the_page_matches_transformers_and_round_trips(tmp_path, ranks, monkeypatch):
    config = zoo.common(StableLmConfig, partial_rotary_factor=0.25, hidden_size=64)
    monkeypatch.setitem(zoo.ZOO, "stablelm", lambda: config)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family_bodies.family_of(CODE, "STABLELM")))
    model = zoo.make(tmp_path / "model", "stablelm")
    make_token_map(tmp_path / "tokenizer", zoo.VOCAB, 0)
    folders = Folders(model, converted(model, tmp_path / "convert"), tmp_path / "tokenizer")
    reference, _ = zoo.reference(model, IDS)
    words = "STABLELM", tiny_config(tp=2), folders, IDS[:, :-1]
    ours = ranks(2).run(family_bodies.logits_with, CODE, *words)[0]
    torch.testing.assert_close(ours[..., : zoo.VOCAB], reference, rtol=0, atol=1e-5)
    wrong = CODE.replace("norm_epsilon=epsilon", "norm_epsilon=1e-2")  # negative control
    assert wrong != CODE
    ours = ranks(2).run(family_bodies.logits_with, wrong, *words)[0]
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours[..., : zoo.VOCAB], reference, rtol=0, atol=1e-5)

    (tmp_path / "out").mkdir()
    export_checkpoint(folders.checkpoint, model, folders.tokenizer, tmp_path / "out", ExportConfig())
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_files_named_on_the_page_exist():
    paths = re.findall(r"`((?:tests|nemo_adapt)/[\w/.]+\.py)`", PAGE)
    assert paths
    for path in paths:
        assert path.endswith("stablelm.py") or (Path(__file__).parents[2] / path).is_file(), path
