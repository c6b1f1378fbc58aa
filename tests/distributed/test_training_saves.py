"""What a save contains while training continues, and how ranks share writing and reading."""

import json

import pytest
import torch
from helpers.folders import folders_of
from helpers.tiny import TinyLlama, make_llama, tiny_config
from ranks import road_bodies, saving_bodies

from nemo_adapt.checkpoint.folders import COMMON, complete
from nemo_adapt.checkpoint.integrity import FILES, damage
from nemo_adapt.families.family import TABLES
from nemo_adapt.files import file_hash
from nemo_adapt.training_files import HELD_OUT, METRICS

VOCAB = 251
"""Rows of the target: 245 of the source and six new ones."""


@pytest.fixture
def folders(tmp_path):
    return folders_of(tmp_path, TinyLlama(tied=False, vocab=245), new=6)


@pytest.mark.parametrize(
    ("layout", "distributed_optimizer", "precision"),
    [({}, True, "fp32"), ({}, False, "bf16"), ({"tp": 2}, True, "bf16")],
)
def test_save_contains_the_state_when_it_began(tmp_path, folders, ranks, layout, distributed_optimizer, precision):
    """All state is changed before a file is written. No process is started, as a fork can hang forever
    (patches/checkpoints.py). Unsharded state is where any megatron-core finds it."""
    config = tiny_config(**layout)
    config.train.distributed_optimizer, config.train.precision = distributed_optimizer, precision
    found = ranks(2).run(saving_bodies.change_after_saving, config, folders, VOCAB, tmp_path / "saved")
    for saved in found:
        assert saved.same and not saved.settled_early and saved.children == 0
        if distributed_optimizer:  # only the rank's own shard: master weights and two moments
            assert saved.numbers == pytest.approx(3 * saved.parameters / (1 if layout else 2), rel=0.05)
    common = torch.load(tmp_path / "saved" / "iter_0000001" / COMMON, weights_only=True)
    assert common["progress"] == {"step": 1} and common["scheduler"]


def test_check_detects_one_element_that_differs(tmp_path, folders, ranks):
    """Negative control."""
    words = tiny_config(), folders, VOCAB, tmp_path / "saved", 1e-3
    assert not any(saved.same for saved in ranks(2).run(saving_bodies.change_after_saving, *words))


def test_ranks_write_equal_shares_of_the_weights(folders, ranks):
    one, other = ranks(2).run(saving_bodies.who_saves, tiny_config(), folders, VOCAB)
    assert one == pytest.approx(other, rel=0.1)


def test_ranks_read_equal_shares_of_the_weights(folders, ranks):
    """Each weight, and each row of a table, is read by exactly one of the two."""
    found = ranks(2).run(saving_bodies.what_is_read, tiny_config(), folders)
    (one, rows_of_one, names), (other, rows_of_other, _) = found
    assert sorted([*one, *other]) == sorted(name for name in names if name not in TABLES)
    assert sum(one.values()) == pytest.approx(sum(other.values()), rel=0.1)
    assert rows_of_one
    for key, rows in rows_of_one.items():
        assert abs(len(rows) - len(rows_of_other[key])) <= 1
        assert sorted(rows + rows_of_other[key]) == list(range(len(rows) + len(rows_of_other[key])))


def test_loading_works_with_more_ranks_than_weights(folders, ranks):
    assert ranks(2).run(saving_bodies.load_one_weight, tiny_config(), folders) == [True, True]


def test_save_waits_for_the_previous_one_and_reports_the_wait(tmp_path, folders, ranks):
    for first, second in ranks(2).run(saving_bodies.save_twice, tiny_config(), folders, VOCAB, tmp_path / "saved", 1.5):
        assert second > first  # by how much depends on what else the machine does
    assert sorted(path.name for path in (tmp_path / "saved").glob("iter_*")) == ["iter_0000001", "iter_0000002"]


def test_ranks_compare_their_shards_once_in_a_phase(tmp_path, folders, ranks):
    """Megatron gathers the names and places of all shards on every rank."""
    found = ranks(2).run(saving_bodies.checked_saves, tiny_config(), folders, VOCAB, tmp_path / "saved")
    assert found == [[1, 1, 2], [1, 1, 2]]


def test_training_goes_on_while_old_checkpoints_are_deleted(tmp_path, folders, ranks):
    """A large one on a busy file system takes minutes. The last is waited for."""
    for meanwhile, after in ranks(2).run(
        saving_bodies.save_while_deleting, tiny_config(), folders, VOCAB, tmp_path / "saved"
    ):
        assert [name.split(".")[0] for name in meanwhile] == ["iter_0000001", "iter_0000002"]
        assert meanwhile[0].endswith(".partial") and after == ["iter_0000002"]


def test_files_of_all_ranks_are_recorded_although_the_first_cannot_list_them(tmp_path, folders, ranks):
    """The others do not list the folder: a thousand ranks have thousands of files in it."""
    lists = ranks(2).run(saving_bodies.save_unlisted, tiny_config(), folders, VOCAB, tmp_path / "saved")
    assert lists[0] > 0 == lists[1]
    (place,) = complete(tmp_path / "saved")
    files = {path.name for path in place.glob("*.distcp")}
    assert {name[:3] for name in files} == {"__0", "__1"}
    assert files < json.loads((place / FILES).read_text()).keys() and not damage(place)
    next(place.glob("__1_*")).unlink()
    assert "is missing" in damage(place)


@pytest.mark.parametrize("name", [METRICS, HELD_OUT])
def test_all_ranks_end_with_the_error_of_the_one_that_writes_metrics(tmp_path, ranks, name):
    """A rank that goes on would end with the traceback of a closed connection."""
    assert ranks(2).run(saving_bodies.record_metrics, tmp_path, name == HELD_OUT) == ["", ""]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/full")
    found = ranks(2).run(saving_bodies.record_metrics, tmp_path, name == HELD_OUT)
    assert found == ["OSError: [Errno 28] No space left on device"] * 2
    (tmp_path / "file").touch()
    found = ranks(2).run(saving_bodies.record_metrics, tmp_path / "file" / "train", False)
    assert found == [f"UserError: [Errno 20] Not a directory: '{tmp_path}/file/train/{METRICS}'"] * 2


def test_only_the_first_rank_hashes_the_text_that_chooses_the_best_checkpoint(tmp_path, ranks):
    text = tmp_path / "tr.txt"
    text.write_text("a\n")
    config = tiny_config()
    config.train.keep_best, config.evaluate.target, config.evaluate.texts = True, "tr", {"tr": str(text)}
    first, second = ranks(2).run(road_bodies.best_text, config, make_llama(tmp_path / "model", TinyLlama()))
    assert first[0] == second[0] and first[0]["text"] == file_hash(text)
    assert (first[1], second[1]) == (1, 0)
