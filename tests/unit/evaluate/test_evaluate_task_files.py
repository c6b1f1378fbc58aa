"""Reading task files into questions, and one-line errors with file and line for mistakes in them."""

import datetime
import json
import shlex
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from nemo_adapt.config import EvaluateConfig, recipes
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.command import CompareConfig
from nemo_adapt.evaluate.tasks import kinds, load, prompts, records
from nemo_adapt.evaluate.tasks.kinds import KINDS, Line, MultipleChoice
from nemo_adapt.run import reads

XCOPA = {"premise": "Adam musluğu açtı.", "choice1": "Tuvalet doldu.", "choice2": "Su aktı.", "question": "effect"}
STORY = {f"input_sentence_{number}": f"Cümle {number}." for number in range(1, 5)}
RECORDS: dict[str, dict[str, Any]] = {
    "headline": {"summary": "Uzun bir  haber.", "title": "Haber"},
    "mlama": {"template": "[X] was born in [Y] .", "sub_label": "Ada", "obj_label": "London"},
    "sentiment": {"text": "Çok güzel.", "label": "positive"},
    "translation": {"en": "A cat.", "tr": "Bir kedi."},
    "xcopa": {**XCOPA, "label": 1},
    "xnli": {"premise": "Kedi uyuyor.", "hypothesis": "Kedi uyanık.", "label": 2},
    "xstorycloze": {**STORY, "sentence_quiz1": "Son.", "sentence_quiz2": "Bitti.", "answer_right_ending": 2},
}
LANGUAGE = {"translation": "en-tr"}


@pytest.fixture(autouse=True)
def _as_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: object())


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def loaded(path: Path, kind: str, language: str = "", **settings: Any) -> load.Task:
    config = EvaluateConfig(**settings)
    (task,) = load.load(config, {f"{kind}.{language or LANGUAGE.get(kind, 'tr')}": path})
    return task


def error(path: Path, kind: str, language: str = "", **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(path, kind, language, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_records_cover_every_task_kind() -> None:
    assert RECORDS.keys() == KINDS.keys()


EXPECTED = {
    "headline": Line("Özet: Uzun bir haber.\nBaşlık:", "Haber"),
    "mlama": MultipleChoice("Ada was born in", ("London .", "Paris ."), 0),
    "sentiment": MultipleChoice("Çok güzel.\nDuygu:", ("olumsuz", "olumlu"), 1),
    "translation": Line("English: A cat.\nTürkçe:", "Bir kedi."),
    "xcopa": MultipleChoice("Adam musluğu açtı bu yüzden", ("tuvalet doldu.", "su aktı."), 1),
    "xnli": MultipleChoice(
        "",
        tuple(f"Kedi uyuyor., doğru? {word}, Kedi uyanık." for word in ("Evet", "Böylece", "Hayır")),
        2,
    ),
    "xstorycloze": MultipleChoice("Cümle 1. Cümle 2. Cümle 3. Cümle 4.", ("Son.", "Bitti."), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_record_becomes_the_expected_question(kind: str, tmp_path: Path) -> None:
    rows = [RECORDS[kind]]
    if kind == "mlama":
        rows.append({**rows[0], "obj_label": "Paris"})
    task = loaded(write(tmp_path / "task.jsonl", rows), kind, shots={kind: 0})
    assert task.items[0] == EXPECTED[kind]
    assert task.name == f"{kind}_{LANGUAGE.get(kind, 'tr')}" and task.language == "tr" and task.shots == []


@pytest.mark.parametrize("kind", KINDS)
def test_missing_or_empty_field_is_reported_with_name_and_line(kind: str, tmp_path: Path) -> None:
    for name, value in RECORDS[kind].items():
        missing = {key: each for key, each in RECORDS[kind].items() if key != name}
        said = error(write(tmp_path / "task.jsonl", [RECORDS[kind], missing]), kind, shots={kind: 0})
        assert f"task.jsonl: line 2 has no field {name!r}" in said
        if isinstance(value, str):
            spoiled = RECORDS[kind] | {name: " "}
            said = error(write(tmp_path / "task.jsonl", [RECORDS[kind], spoiled]), kind, shots={kind: 0})
            assert f"task.jsonl: line 2 has an empty field {name!r}" in said or "is none of" in said


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mlama", "xstorycloze")])
def test_unknown_language_error_lists_the_known_languages(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "task.jsonl", [RECORDS[kind]])
    language = "en-xx" if kind == "translation" else "xx"
    assert f"evaluate.tasks.{kind}: no prompt for language 'xx'" in error(path, kind, language)
    assert "Known: ar, en, hi, sw, ta, tr" in error(path, kind, language)


def test_all_prompt_tables_have_the_same_languages() -> None:
    tables = (prompts.XCOPA, prompts.XNLI, prompts.SENTIMENT, prompts.HEADLINE, prompts.LANGUAGE)
    assert all(table.keys() == records.FLORES_CODES.keys() for table in tables)


def test_other_bad_input_raises_clear_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "task.jsonl", [RECORDS["xcopa"], RECORDS["xcopa"] | {"label": 7}])
    assert "line 2 has 7 in field 'label', which is none of 0, 1" in error(path, "xcopa", shots={"xcopa": 0})
    path.write_text('{"premise": "a"}\n\n[1]\n', encoding="utf-8")
    assert "line 3 is not a JSON object" in error(path, "xcopa")
    path.write_text("{broken\n", encoding="utf-8")
    assert "line 1 is not a JSON object" in error(path, "xcopa")
    path.write_text("\n", encoding="utf-8")
    assert "task.jsonl: the file is empty" in error(path, "xcopa")
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in error(path, "xcopa")
    assert "unknown kind 'xcopy'. Did you mean 'xcopa'?" in error(path, "xcopy")
    good = write(path, [RECORDS["xcopa"]] * 4)
    assert "unknown kind 'xcop'" in error(good, "xcopa", shots={"xcop": 1, "xcopa": 0})
    assert "5 examples are to be shown" in error(good, "xcopa") and error(good, "xcopa").endswith(
        "evaluate.shots.xcopa"
    )
    assert "'entr' is not a pair" in error(write(path, [RECORDS["translation"]]), "translation", "entr")
    facts = RECORDS["mlama"] | {"candidates": ["Paris"]}
    assert "line 1 has an 'obj_label' that is not among" in error(write(path, [facts]), "mlama")
    assert "has no [Y]" in error(write(path, [RECORDS["mlama"] | {"template": "[X] ."}]), "mlama")
    facts = RECORDS["mlama"] | {"candidates": "London, Paris"}
    assert "has no list in field 'candidates', but \"London, Paris\"" in error(write(path, [facts]), "mlama")
    path.write_text(json.dumps(RECORDS["headline"] | {"summary": "a \ud800 b"}), encoding="utf-8")
    assert "line 1 has half of a surrogate pair" in error(path, "headline", shots={"headline": 0})
    write(good, [RECORDS["xcopa"]])
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    assert "evaluate.tasks.xcopa needs lm-eval" in error(good, "xcopa", shots={"xcopa": 0})
    assert "pip install 'nemo-adapt[eval]'" in error(good, "xcopa", shots={"xcopa": 0})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"candidates": ["London", " "]}, "has an empty field 'candidates, item 2'"),
        ({"candidates": ["\ud800", "London"]}, "has half of a surrogate pair"),
        ({"candidates": ["London", None]}, "has no field 'candidates, item 2'"),
        ({"candidates": ["London", ["a"]]}, "has no text in field 'candidates, item 2', but [\"a\"]"),
        ({"relation": ["P19"]}, "has no text in field 'relation', but [\"P19\"]"),
        ({"language": ["tr"]}, "has no text in field 'language', but [\"tr\"]"),
    ],
)
def test_facts_that_failed_after_training_are_one_line(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (RECORDS["mlama"], RECORDS["mlama"] | changed)))
    assert f"task.jsonl: line 2 {says}" in error(path, "mlama")


def test_values_of_parquet_are_shown_in_errors(tmp_path: Path) -> None:
    rows = {"text": [b"abc"], "label": ["positive"]}, {"text": ["abc"], "label": [datetime.date(2020, 1, 31)]}
    for columns, says in zip(rows, ("has no text in field 'text', but \"b'abc'", 'has "2020-01-31" in'), strict=True):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "task.parquet")
        assert f"row 1 {says}" in error(tmp_path / "task.parquet", "sentiment", shots={"sentiment": 0})


def test_deeply_nested_json_is_one_line(tmp_path: Path) -> None:
    for suffix, says in ((".json", "task.json is not JSON"), (".jsonl", "line 1 is not a JSON object")):
        (tmp_path / f"task{suffix}").write_text("[" * 100_000)
        assert says in error(tmp_path / f"task{suffix}", "sentiment")


@pytest.mark.parametrize("name", ["heldout", None])
def test_examples_of_an_unknown_split_among_known_ones_are_refused(tmp_path: Path, name: str | None) -> None:
    """The training examples had been scored."""
    rows = [RECORDS["xcopa"] | {"split": split} for split in ["train"] * 10 + [name] * 10]
    said = error(write(tmp_path / "task.jsonl", rows), "xcopa")
    assert f"line 11 has {json.dumps(name)} in field 'split', which is none of train, " in said
    assert len(loaded(write(tmp_path / "task.jsonl", rows[10:]), "xcopa").items) == 5, "a single split"


def test_shots_come_from_another_split_and_depend_on_the_seed(tmp_path: Path) -> None:
    rows = [
        RECORDS["xcopa"] | {"premise": f"{split} {number}.", "split": split}
        for split in ("test", "val")
        for number in range(20)
    ]
    path = write(tmp_path / "task.jsonl", rows)
    task = loaded(path, "xcopa")
    assert len(task.shots) == 5 and len(task.items) == 20
    assert all(item.query.startswith("val") for item in task.shots)
    assert all(item.query.startswith("test") for item in task.items)
    assert loaded(path, "xcopa").shots == task.shots != loaded(path, "xcopa", seed=1).shots
    assert len(loaded(path, "xcopa", task_examples=3).items) == 3


def test_case_of_a_split_is_ignored(tmp_path: Path) -> None:
    rows = [RECORDS["xcopa"] | {"premise": f"{split}.", "split": split} for split in ("Test", "TRAIN")]
    task = loaded(write(tmp_path / "task.jsonl", rows), "xcopa", shots={"xcopa": 1})
    assert [item.query.split()[0] for item in (*task.shots, *task.items)] == ["TRAIN", "Test"]


def test_translations_are_on_one_line_as_answers_are(tmp_path: Path) -> None:
    path = write(tmp_path / "task.jsonl", [{"en": "A cat.\nA dog.", "tr": "Bir kedi.\n\nBir  köpek."}])
    (item,) = loaded(path, "translation", shots={"translation": 0}).items
    assert item == Line("English: A cat. A dog.\nTürkçe:", "Bir kedi. Bir köpek.")


def test_without_splits_shots_are_not_among_the_scored_examples(tmp_path: Path) -> None:
    rows = [RECORDS["xcopa"] | {"premise": f"{number}."} for number in range(100)]
    task = loaded(write(tmp_path / "task.jsonl", rows), "xcopa")
    assert len(task.items) == 100 - records.HELD_APART
    assert not {item.query for item in task.shots} & {item.query for item in task.items}
    assert len(loaded(tmp_path / "task.jsonl", "xcopa", shots={"xcopa": 0}).items) == 100


def test_folder_with_a_file_for_each_split_is_read(tmp_path: Path) -> None:
    for split in ("dev", "test"):
        write(tmp_path / f"{split}.jsonl", [RECORDS["xnli"] | {"premise": split}] * 6)
    task = loaded(tmp_path, "xnli")
    assert len(task.items) == 6 and all("dev," in item.choices[0] for item in task.shots)
    (tmp_path / "test.jsonl").write_text('{"premise": "x"}\n')
    assert f"{tmp_path / 'test.jsonl'}: line 1 has no field 'hypothesis'" in error(tmp_path, "xnli")


def test_flores_is_read_in_both_layouts(tmp_path: Path) -> None:
    for split, size in (("dev", 6), ("devtest", 3)):
        (tmp_path / split).mkdir()
        for code in ("eng_Latn", "tur_Latn"):
            lines = "".join(f"{code} {split} {number}\n" for number in range(size))
            (tmp_path / split / f"{code}.{split}").write_text(lines, encoding="utf-8")
    task = loaded(tmp_path, "translation", "en-tr")
    assert task.items[2] == Line("English: eng_Latn devtest 2\nTürkçe:", "tur_Latn devtest 2")
    assert len(task.items) == 3 and all("dev " in item.query for item in task.shots)
    (tmp_path / "devtest" / "tur_Latn.devtest").write_text("tek\n")
    assert "not line-aligned (lines: en 3, tr 1)" in error(tmp_path, "translation", "en-tr")
    (tmp_path / "devtest" / "tur_Latn.devtest").unlink()
    assert "has 0 files for 'tr' (tr or tur_Latn.*)" in error(tmp_path, "translation", "en-tr")
    flat = tmp_path / "flat"
    flat.mkdir()
    for language in ("en", "tr"):
        (flat / f"{language}.txt").write_text("".join(f"{language} {number}\n" for number in range(80)))
    assert len(loaded(flat, "translation", "tr-en").items) == 80 - records.HELD_APART
    (flat / "en.txt").write_text("".join(f"en {number}\n" if number != 40 else "\n" for number in range(80)))
    assert "line 41 has an empty field 'en'" in error(flat, "translation", "tr-en")
    (flat / "en.txt").write_bytes(b"caf\xe9\n" * 80)
    assert "en.txt is not UTF-8" in error(flat, "translation", "tr-en")
    (flat / "en.txt").write_text("one\n" * 80, encoding="utf-8-sig")
    assert records.read_aligned(flat, ["en"])[0].text("en") == "one"  # without the byte order mark


def test_neutral_is_a_choice_if_the_file_has_such_labels(tmp_path: Path) -> None:
    rows = [{"text": "İyi.", "label": "neutral"}, {"text": "Kötü.", "label": "negative"}]
    task = loaded(write(tmp_path / "task.jsonl", rows), "sentiment", shots={"sentiment": 0})
    assert task.items[0] == MultipleChoice("İyi.\nDuygu:", ("olumsuz", "olumlu", "nötr"), 2)
    assert kinds.with_candidates([]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_docs_example_of_each_kind_is_valid(kind: str, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/tasks.md").read_text(encoding="utf-8")
    example = page.split(f"### {kind}\n")[1].split("```\n")[1]
    (tmp_path / "task.jsonl").write_text(example, encoding="utf-8")
    task = loaded(tmp_path / "task.jsonl", kind, shots={kind: 0})
    assert len(task.items) == 1
    row = next(line for line in page.splitlines() if line.startswith("| ") and f"`{kind}`" in line)
    assert f"| {KINDS[kind].shots} |" in row and str(KINDS[kind].most_tokens or "chosen") in row


def test_docs_command_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs/tasks.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = [line for line in page.splitlines() if line.startswith("nemo-adapt compare")]
    config = recipes.parse(CompareConfig, shlex.split(line)[2:])
    assert config.evaluate.tasks == {"xcopa": {"tr": "xcopa/tr.jsonl"}, "translation": {"en-tr": "flores"}}
    recipe = recipes.load("stories260k_tr", ["evaluate.tasks.xcopa.tr=a.jsonl", "evaluate.shots.xcopa=0"])
    assert recipe.evaluate.tasks == {"xcopa": {"tr": "a.jsonl"}} and recipe.evaluate.shots == {"xcopa": 0}


def test_missing_task_file_is_reported_before_a_run_starts(tmp_path: Path) -> None:
    config = recipes.load("stories260k_tr", [f"evaluate.tasks.xcopa.tr={tmp_path}", "evaluate.tasks.mlama.tr=nowhere"])
    with pytest.raises(UserError, match=r"^evaluate\.tasks\.mlama\.tr: nowhere does not exist$"):
        reads._tasks(config)
    del config.evaluate.tasks["mlama"]
    assert reads._tasks(config) == {"tasks.xcopa.tr": [tmp_path]}
