"""The commands of docs/probe.md on the small world, shortened; an interrupted probe resumes; its choice is trained."""

import json
import shlex
from pathlib import Path

import pytest
from helpers.command import nemo_adapt

PAGE = Path(__file__).parents[2] / "docs" / "probe.md"
FEWER = {"probe.steps": "4", "probe.at": "[0,2]", "probe.max_bytes": "2000"}


def documented():
    """Return the arguments of each command on the page, without ``nemo-adapt``."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("nemo-adapt ")]


def shortened(words, short):
    """Return a documented command with the settings of the small world before its own, and with fewer steps."""
    if "recipe=demo" not in words:
        return words
    own = [word for word in words[1:] if word != "recipe=demo" and word.partition("=")[0] not in FEWER]
    fewer = [f"{key}={value}" for key, value in FEWER.items()]
    return [words[0], *short, "train.phases=[{steps: 10, lr: 1e-3}]", *own, *fewer]


@pytest.fixture(scope="module")
def probed(world, short):
    """Run the page's commands in order; return their answers and the run's folder."""
    commands = documented()
    assert [words[0] for words in commands] == ["probe", "run", "inspect"]
    answers = [nemo_adapt(*shortened(words, short), cwd=world) for words in commands]
    for answer in answers:
        assert answer.code == 0, answer.err
    return answers, world / "runs" / "demo"


def test_probe_prints_and_writes_its_choice(probed):
    (answer, *_), run = probed
    result = json.loads((run / "probe" / "probe.json").read_text())
    assert f"best: {result['chosen']}" in answer.out and "[convert] done in" in answer.out
    assert len(result["runs"]) == 6 and result["points"] == [0, 2, 4]
    for row in result["rows"]:
        assert row["mean"]["4"] < row["mean"]["0"]
    by_seed = [one["bits_per_byte"]["0"] for one in result["runs"] if one["strategy"] == "subword_mean"]
    assert by_seed[0] == by_seed[1]  # no randomness in these rows, only in the order of the data
    choice = json.loads((run / "probe" / "choice.json").read_text())
    assert choice == {"input": result["chosen"], "output": result["chosen"]}


def test_run_trains_with_the_choice_of_the_probe(probed):
    (_, answer, _), run = probed
    assert "[probe] finished before, skipped" in answer.out
    summary = json.loads((run / "train" / "summary.json").read_text())
    chosen = json.loads((run / "probe" / "choice.json").read_text())
    assert summary["resize"] == chosen
    manifest = json.loads((run / "train" / "manifest.json").read_text())
    assert list(manifest["inputs"]["probe"].values()) == [
        json.loads((run / "probe" / "manifest.json").read_text())["fingerprint"]
    ]


def test_interrupted_probe_repeats_only_the_unfinished_run(probed, world, short):
    _, run = probed
    lines = (run / "probe" / "runs.jsonl").read_text().splitlines(keepends=True)
    (run / "probe" / "runs.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    (run / "probe" / "manifest.json").unlink()
    answer = nemo_adapt(*shortened(documented()[0], short), cwd=world)
    assert answer.code == 0, answer.err
    again = (run / "probe" / "runs.jsonl").read_text().splitlines()
    assert again[: len(lines) - 1] == [line.rstrip("\n") for line in lines[:-1]]
    assert json.loads(again[-1]) == json.loads(lines[-1])  # the interrupted run, to the last bit


def test_starts_of_a_probe_without_progress_are_limited(probed, world, short):
    """Else Slurm would requeue a probe endlessly if one of its runs takes longer than the time limit."""
    place = probed[1] / "probe"
    files = {name: (place / name).read_text() for name in ("runs.jsonl", "manifest.json", "starts.json")}
    lines = files["runs.jsonl"].splitlines(keepends=True)
    (place / "runs.jsonl").write_text("".join(lines[:-1]))
    (place / "manifest.json").unlink()
    (place / "starts.json").write_text(json.dumps({"step": len(lines) - 1, "starts": 3}))
    answer = nemo_adapt(*shortened(documented()[0], short), cwd=world)
    assert answer.code == 2, answer.err
    assert "3 starts in a row ended without a run of the probe after number 5" in answer.err
    assert answer.err.count("nemo-adapt: error") == 1
    for name, text in files.items():
        (place / name).write_text(text)


def test_inspect_reads_the_exported_model(probed):
    (_, _, answer), run = probed
    assert "nearest base tokens" in answer.out and f"written to {Path('runs/demo/inspect')}" in answer.out
    report = json.loads((run / "inspect" / "inspect.json").read_text())
    assert report.keys() == {"input", "output"} and len(report["input"]["neighbours"]) == 12


def test_invalid_probe_settings_are_reported_in_one_line(probed, world, short):
    for words, says in (
        (["probe.strategies=[mean,subword_men]"], "Did you mean 'subword_mean'?"),
        (["probe.strategies=[mean+nrmal]"], "Did you mean 'normal'?"),
        (["probe.seeds=0"], "probe.seeds=0 must be at least 1"),
        (["evaluate.target=xx"], "evaluate.target='xx' is not a language of evaluate.texts"),
        (["train.phases=[{train: new_row}]"], "Did you mean 'new_rows'?"),
    ):
        answer = nemo_adapt("probe", *short, "run.name=mistaken", *words, cwd=world)
        assert answer.code == 2 and says in answer.err, answer.err
        assert len(answer.err.strip().splitlines()) == 1
    assert not (world / "runs" / "mistaken").exists()
