"""Phases appended to those that a training was begun with."""

import pytest

from nemo_adapt import pipeline
from nemo_adapt.config import recipes
from nemo_adapt.errors import UserError
from nemo_adapt.run import artifact, steps

PHASE, FURTHER = "{steps: 5, lr: 1e-3}", "{train: output, steps: 3, lr: 1e-4}"


@pytest.mark.parametrize(
    ("strategy", "before", "now", "grows"),
    [
        ("mean", [PHASE], [PHASE, FURTHER], True),
        ("mean", [PHASE], [PHASE, FURTHER, PHASE], True),
        ("mean", [PHASE, FURTHER], [PHASE], False),
        ("mean", [PHASE], [FURTHER, PHASE], False),
        ("mean", [PHASE], [FURTHER], False),
        ("learned", [PHASE], [PHASE, FURTHER], False),  # its first phase is a share of all steps
        ("probed", [PHASE], [PHASE, FURTHER], False),  # may choose such a strategy
    ],
)
def test_a_training_may_get_further_phases(tmp_path, strategy, before, now, grows):
    def stage(phases):
        words = ["run.name=x", "model.path=y", "data.target=[t.txt]", f"train.phases=[{','.join(phases)}]"]
        config = recipes.load("blank", [*words, f"resize.input={strategy}"])
        [step] = [step for step in pipeline.steps_of(config) if step.name == "train"]
        return artifact.Stage("train", tmp_path / "train", steps._deciding(config, step), {}, step.restart)

    stage(before).prepare()
    if grows:
        stage(now).prepare()
        with pytest.raises(UserError, match=r"other settings \(train\.phases\)"):
            stage(before).prepare()
    else:
        with pytest.raises(UserError, match=r"other settings \(train\.phases\)"):
            stage(now).prepare()
