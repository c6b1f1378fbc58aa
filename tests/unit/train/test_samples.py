"""Data sets whose files are damaged."""

import json

import numpy as np
import pytest

from nemo_adapt.data.store import write_index
from nemo_adapt.errors import UserError
from nemo_adapt.train.samples import check_token_file


def data_set(folder, tokens, width):
    """A data set with documents of these numbers of tokens."""
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps({"documents": len(tokens), "tokens": sum(tokens), "bytes": 300}))
    (folder / "target.bin").write_bytes(bytes(width * sum(tokens)))
    write_index(folder / "target.idx", lambda: [np.array(tokens, np.int32)], {2: np.uint16, 4: np.int32}[width])
    return folder


@pytest.mark.parametrize(("tokens", "width"), [([100], 2), ([60, 30, 10], 4)])
def test_a_complete_data_set_passes(tmp_path, tokens, width):
    check_token_file(data_set(tmp_path / "target", tokens, width))


@pytest.mark.parametrize("left", [199, 0, None])
@pytest.mark.parametrize(("name", "content"), [("target.bin", "100 tokens"), ("target.idx", "an index of 3 documents")])
def test_a_truncated_or_missing_file_of_a_data_set_is_reported(tmp_path, name, content, left):
    path = data_set(tmp_path / "target", [60, 30, 10], 2) / name
    size = 0 if left is None else min(left, path.stat().st_size - 1)
    path.unlink() if left is None else path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError) as raised:
        check_token_file(path.parent)
    said = f"{path} is damaged: {size} bytes are not {content}; delete {path.parent}, then run the same command"
    assert str(raised.value) == said
