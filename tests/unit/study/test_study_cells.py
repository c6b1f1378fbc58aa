"""The cells of a study: combinations of its axes' values, with seeds."""

import pytest

from nemo_adapt.config import Config, PhaseConfig, StudyConfig
from nemo_adapt.errors import UserError
from nemo_adapt.study.cells import Cell, cells, check, configuration, seeded

AXES = {
    "vocabulary": {"0": ["tokenizer.new_tokens=0"], "1000": ["tokenizer.new_tokens=1000"]},
    "strategy": {"mean": [], "random": ["resize.input=random_init"], "focus": ["resize.input=focus"]},
}


def test_cells_are_all_combinations_with_every_seed():
    found = cells(StudyConfig(AXES, seeds=2))
    assert len(found) == 2 * 3 * 2 == len({cell.name for cell in found})
    assert found[0].name == "0-mean-seed0" and found[0].words == ("tokenizer.new_tokens=0",)
    assert [cell.seed for cell in found] == sorted(cell.seed for cell in found)  # the first seed comes first
    last = found[-1]
    assert last.values == {"vocabulary": "1000", "strategy": "focus"} and last.seed == 1
    assert last.words == ("tokenizer.new_tokens=1000", "resize.input=focus")


def test_excluded_combinations_are_left_out():
    found = cells(StudyConfig(AXES, ["vocabulary=0 strategy!=mean", "strategy=focus"], seeds=1))
    assert [cell.name for cell in found] == ["0-mean-seed0", "1000-mean-seed0", "1000-random-seed0"]


def test_seed_of_a_cell_is_added_to_those_of_the_recipe():
    config = Config()
    config.train.seed, config.resize.seed = 7, 20
    assert seeded(Cell({}, 2, ()), config) == {"train.seed": 9, "resize.seed": 22}


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (StudyConfig(), "study.axes is empty"),
        (StudyConfig({"a": {}}), "study.axes is empty"),
        (StudyConfig(AXES, seeds=0), "at least 1"),
        (StudyConfig(AXES, ["vocabulary"]), "not of the form"),
        (StudyConfig(AXES, ["vocabularies=0"]), "Did you mean 'vocabulary'"),
        (StudyConfig(AXES, ["strategy=means"]), "Did you mean 'mean'"),
        (StudyConfig({"a": {"x y": [], "x_y": []}}), "same folder"),
        (StudyConfig({"a": {"x": [], "y": ["recipe=other"]}}), "recipe=other cannot differ between cells"),
        (StudyConfig({"a": {"x": [], "y": ["run.dir=other"]}}), "run.dir=other cannot differ between cells"),
    ],
)
def test_invalid_studies_raise_user_errors(study, said):
    with pytest.raises(UserError, match=said):
        cells(study)


@pytest.mark.parametrize(
    ("phase", "match", "fits"),
    [
        (PhaseConfig(bytes=1000), "bytes", True),
        (PhaseConfig(tokens=1000), "tokens", True),
        (PhaseConfig(tokens=1000), "bytes", False),
        (PhaseConfig(steps=10), "tokens", False),
        (PhaseConfig(steps=10), "steps", False),
    ],
)
def test_phases_must_have_their_budget_in_study_match(phase, match, fits):
    config = Config()
    config.train.phases = [phase]
    if fits:
        check(Cell({}, 0, ()), config, match)
    else:
        with pytest.raises(UserError, match=r"study\.match"):
            check(Cell({"a": "x"}, 0, ()), config, match)


def test_a_number_outside_its_bounds_is_reported_with_its_cell():
    common = ["run.name=x", "model.path=/nowhere"]
    with pytest.raises(UserError, match=r"^study: cell small-seed0: parallel\.tp=0 must be at least 1$"):
        configuration(Cell({"size": "small"}, 0, ("parallel.tp=0",)), "blank", common)
