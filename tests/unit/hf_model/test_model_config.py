"""config.json of a model folder that is missing or damaged."""

import pytest

from nemo_adapt.errors import UserError
from nemo_adapt.hf_model.model_config import read_config


def test_folders_without_a_valid_config_json_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_config(tmp_path / "none")
    with pytest.raises(UserError, match=r"no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is a file: give the folder that it is in"):
        read_config(tmp_path / "config.json")
    with pytest.raises(UserError, match="not valid JSON"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="not a JSON object"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("\ufeff{}", encoding="utf-8")
    with pytest.raises(UserError, match="byte order mark"):
        read_config(tmp_path)
