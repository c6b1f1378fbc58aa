"""Sets of text that are not as they were written."""

import json

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.train.batches import check_whole


@pytest.mark.parametrize(("length", "is_whole"), [(200, True), (400, True), (199, False), (0, False), (None, False)])
def test_a_set_that_was_cut_off(tmp_path, length, is_whole):
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "counts.json").write_text(json.dumps({"documents": 1, "tokens": 100, "bytes": 300}))
    if length is not None:
        (folder / "target.bin").write_bytes(bytes(length))
    if is_whole:
        check_whole(folder)
        return
    with pytest.raises(UserError, match=rf"target\.bin is damaged: {length or 0} bytes are not 100 tokens; delete"):
        check_whole(folder)
