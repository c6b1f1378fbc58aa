"""The token map: one that is damaged is named, and so is what to do."""

import json
from dataclasses import asdict

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.tokens.token_map import FILE_NAME, NewToken, TokenMap

TOKEN = asdict(NewToken(512, "a", "a", [1, 2], 1, 1))


def test_a_token_map_is_read_as_it_was_written(tmp_path):
    written = TokenMap(512, [NewToken(**TOKEN)])
    written.save(tmp_path)
    assert TokenMap.load(tmp_path) == written


@pytest.mark.parametrize(
    "content",
    [
        '{"source_vocab": 512, "tok',
        "[]",
        "{}",
        '{"source_vocab": "512", "tokens": []}',
        '{"source_vocab": -5, "tokens": []}',
        '{"source_vocab": 512, "tokens": [3]}',
        *(
            json.dumps({"source_vocab": 512, "tokens": [TOKEN | change]})
            for change in ({"source_ids": None}, {"source_ids": []}, {"source_ids": [-1]}, {"unknown": 1})
        ),
    ],
)
def test_a_damaged_token_map_is_one_line(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(UserError, match=r"token_map.json is damaged: .*; run the tokenizer stage again") as error:
        TokenMap.load(tmp_path)
    assert "\n" not in str(error.value)


def test_ids_that_leave_a_gap_are_refused(tmp_path):
    TokenMap(511, [NewToken(**TOKEN)]).save(tmp_path)
    with pytest.raises(UserError, match="do not follow the 511 base ids one by one"):
        TokenMap.load(tmp_path)
