"""The strategy of docs/add-a-strategy.md works as the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import resize_bodies

from nemo_adapt.errors import UserError
from nemo_adapt.families.family import INPUT, OUTPUT
from nemo_adapt.registry import Registry
from nemo_adapt.resize import plan
from nemo_adapt.resize.plan import Materials
from nemo_adapt.tokens.token_map import NewToken, TokenMap

PAGE = (Path(__file__).parents[3] / "docs" / "add-a-strategy.md").read_text(encoding="utf-8")


@pytest.fixture
def registry(monkeypatch):
    """A registry that holds the page's strategy alone."""
    fresh = Registry("resize strategy")
    monkeypatch.setattr(plan, "strategies", fresh)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(compile(code, "docs/add-a-strategy.md", "exec"), {"__name__": "first_piece"})
    return fresh


def test_docs_code_registers_the_strategy(registry):
    assert registry.names() == ["first_piece"]
    with pytest.raises(UserError, match="Did you mean 'first_piece'"):
        registry.get("frist_piece")


def test_engine_computes_the_rows_of_the_docs_strategy(registry):
    source = torch.from_numpy(np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32))
    spelled = [[3, 5, 3], [19], [0, 7]]
    tokens = [NewToken(20 + i, "t", "t", pieces, 1, 1) for i, pieces in enumerate(spelled)]
    for table, end in ((INPUT, 0), (OUTPUT, -1)):
        made = resize_bodies.resize_alone(
            source, registry.get("first_piece").plan(Materials(TokenMap(20, tokens), table)), 32
        )
        assert torch.equal(made[:20], source)
        assert torch.equal(made[20:23], source[[pieces[end] for pieces in spelled]])
        assert not made[23:].any()


def test_docs_name_only_existing_attributes_and_files():
    for name in re.findall(r"\| `([\w.]+)` \|", PAGE):
        value = Materials(TokenMap(1, [NewToken(1, "t", "t", [0], 1, 1)]))
        for part in name.split("."):
            value = getattr(value, part)
    for path in re.findall(r"`((?:tests|nemo_adapt)/[\w/.]+\.py)`", PAGE):
        assert path.endswith("first_piece.py") or (Path(__file__).parents[3] / path).is_file(), path
