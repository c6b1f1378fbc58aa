"""Task files in the layouts in which they are published (every sentence in them is made up here)."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from nemo_adapt.config import EvaluateConfig
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate.tasks import kinds, load
from nemo_adapt.evaluate.tasks.kinds import Line, MultipleChoice

PAIRS = [
    {"premise": f"Kedi {number} uyuyor.", "hypothesis": f"Kedi {number} uyanık.", "label": number % 3}
    for number in range(6)
]
WORDS = ("entailment", "neutral", "contradiction")


@pytest.fixture(autouse=True)
def _as_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: object())


def loaded(path: Path, kind: str, language: str = "tr", shots: int = 0) -> load.Task:
    (task,) = load.load(EvaluateConfig(shots={kind: shots}), {f"{kind}.{language}": path})
    return task


def error(path: Path, kind: str, language: str = "tr", shots: int = 0) -> str:
    with pytest.raises(UserError) as caught:
        loaded(path, kind, language, shots)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: Path, rows: list[dict[str, Any]], **dialect: Any) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)
    return path


TABS: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None, "lineterminator": "\n"}


def test_every_file_format_gives_the_same_task(tmp_path: Path) -> None:
    expected = loaded(lines(tmp_path / "rows.jsonl", PAIRS), "xnli").items
    assert [item.gold for item in expected if isinstance(item, MultipleChoice)] == [0, 1, 2, 0, 1, 2]
    (tmp_path / "list.json").write_text(json.dumps(PAIRS, indent=1), encoding="utf-8")
    lines(tmp_path / "lines.json", PAIRS)
    table(tmp_path / "rows.tsv", PAIRS, **TABS)
    table(tmp_path / "rows.csv", PAIRS)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(PAIRS), tmp_path / "rows.parquet")
    (tmp_path / "marked.jsonl").write_text("\ufeff" + (tmp_path / "rows.jsonl").read_text(), encoding="utf-8")
    for name in ("list.json", "lines.json", "rows.tsv", "rows.csv", "rows.parquet", "marked.jsonl"):
        assert loaded(tmp_path / name, "xnli").items == expected, name


def test_errors_name_the_bad_row_in_every_file_format(tmp_path: Path) -> None:
    spoiled = [PAIRS[0], PAIRS[1] | {"label": 7}]
    (tmp_path / "list.json").write_text(json.dumps(spoiled))
    assert "list.json: item 2 has 7 in field 'label', which is none of 0, 1, 2" in error(tmp_path / "list.json", "xnli")
    assert 'rows.tsv: line 3 has "7"' in error(table(tmp_path / "rows.tsv", spoiled, **TABS), "xnli")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(spoiled), tmp_path / "rows.parquet")
    assert "rows.parquet: row 2 has 7" in error(tmp_path / "rows.parquet", "xnli")
    # A cell of two lines shifts the line number of the next row.
    two = table(tmp_path / "rows.csv", [PAIRS[0] | {"premise": "Kedi,\nyine."}, spoiled[1]])
    assert "rows.csv: line 4 has" in error(two, "xnli")
    (tmp_path / "short.tsv").write_text("premise\thypothesis\tlabel\na\tb\n")
    assert "short.tsv: line 2 has 2 columns, its header 3" in error(tmp_path / "short.tsv", "xnli")
    (tmp_path / "broken.json").write_text("[1, 2")
    assert "broken.json is not JSON" in error(tmp_path / "broken.json", "xnli")
    (tmp_path / "broken.parquet").write_text("nothing")
    assert "broken.parquet is not a Parquet file" in error(tmp_path / "broken.parquet", "xnli")
    (tmp_path / "header.csv").write_text("premise,label\n")
    assert "header.csv: the file is empty" in error(tmp_path / "header.csv", "xnli")
    (tmp_path / "rows.txt").write_text("x")
    assert "ends with one of .jsonl, .json, .tsv, .csv, .parquet" in error(tmp_path / "rows.txt", "xnli")
    (tmp_path / "empty").mkdir()
    assert "empty holds no file that ends with one of .jsonl" in error(tmp_path / "empty", "xnli")
    odd = lines(tmp_path / "odd.jsonl", [{"content": "İyi.", "stars": 5}])
    assert error(odd, "sentiment").endswith("line 1 has no field 'text', but content, stars")


def xnli_1_0(language: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in the format of XNLI-1.0, with empty parses."""
    return [
        {
            "language": language,
            "gold_label": WORDS[row["label"]],
            "sentence1_parse": "",
            "sentence1": f"{language} {row['premise']}",
            "sentence2": row["hypothesis"],
            "pairID": number,
            "label1": "neutral",
        }
        for number, row in enumerate(rows)
    ]


def test_xnli_1_0_files_of_all_languages_are_filtered_by_language(tmp_path: Path) -> None:
    rows = [*xnli_1_0("ar", PAIRS), *xnli_1_0("tr", PAIRS)]
    rows[6]["sentence1"] = 'tr "Kedi 0 uyuyor.'
    for split in ("dev", "test"):
        lines(tmp_path / f"xnli.{split}.jsonl", rows)
        table(tmp_path / f"xnli.{split}.tsv", rows, **TABS)
    (tmp_path / "README.md").write_text("…")
    from_lines = loaded(tmp_path, "xnli", shots=5)
    from_table = loaded(tmp_path / "xnli.test.tsv", "xnli")
    assert from_lines.items == from_table.items and len(from_lines.items) == 6
    assert isinstance(from_lines.items[0], MultipleChoice)
    assert from_lines.items[0].choices[0] == 'tr "Kedi 0 uyuyor., doğru? Evet, Kedi 0 uyanık.'
    assert "has no examples of language 'hi', but of ar, tr" in error(tmp_path, "xnli", "hi")


def test_xnli_with_all_languages_in_each_row_is_read(tmp_path: Path) -> None:
    rows = [
        {
            "premise": {"ar": "قطة", "tr": row["premise"]},
            "hypothesis": {"language": ["ar", "tr"], "translation": ["نائمة", row["hypothesis"]]},
            "label": row["label"],
        }
        for row in PAIRS
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    expected = loaded(lines(tmp_path / "tr.jsonl", PAIRS), "xnli").items
    assert loaded(tmp_path / "all.parquet", "xnli").items == expected
    assert "row 1 has no field 'premise'" in error(tmp_path / "all.parquet", "xnli", "hi")


def test_translated_training_files_of_xnli_are_read(tmp_path: Path) -> None:
    rows = [{"premise": "Kedi .", "hypo": "Köpek .", "label": "contradictory"}, {**PAIRS[0], "label": "entailment"}]
    rows[1]["hypo"] = rows[1].pop("hypothesis")
    task = loaded(table(tmp_path / "multinli.train.tr.tsv", rows, **TABS), "xnli")
    assert [item.gold for item in task.items if isinstance(item, MultipleChoice)] == [2, 0]


def test_examples_without_a_label_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [PAIRS[0] | {"label": label} for label in ("-", -1, None, "neutral")]
    assert len(loaded(lines(tmp_path / "rows.jsonl", rows), "xnli").items) == 1
    assert "3 of 4 examples have no label, and are left out" in capsys.readouterr().out
    assert "no example has a label" in error(lines(tmp_path / "rows.jsonl", rows[:3]), "xnli")
    # In sentiment -1 does not mean 'no label': it may mean negative, of -1, 0, 1.
    moods = lines(tmp_path / "moods.jsonl", [{"text": "Kötü.", "label": label} for label in (0, -1)])
    assert "line 2 has -1 in field 'label', which is none of negative, positive, 0, 1" in error(moods, "sentiment")
    stars = lines(tmp_path / "stars.jsonl", [{"text": "Kötü.", "label": label} for label in (0, 1, 2)])
    assert "line 3 has 2 in field 'label'" in error(stars, "sentiment")


def test_published_xstorycloze_files_are_read(tmp_path: Path) -> None:
    row = {"InputStoryid": "a1", **{f"InputSentence{number}": f"वाक्य {number}।" for number in range(1, 5)}}
    row |= {"RandomFifthSentenceQuiz1": "अंत।", "RandomFifthSentenceQuiz2": "समाप्त।", "AnswerRightEnding": "2"}
    for split, count in (("train", 3), ("eval", 2)):
        table(tmp_path / f"spring2016.val.hi.tsv.split_20_80_{split}.tsv", [row] * count, **TABS)
    task = loaded(tmp_path, "xstorycloze", "hi", shots=2)
    assert len(task.items) == 2 and len(task.shots) == 2
    assert task.items[0] == MultipleChoice("वाक्य 1। वाक्य 2। वाक्य 3। वाक्य 4।", ("अंत।", "समाप्त।"), 1)


def test_published_xl_sum_folder_is_read(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        row = {"id": "1", "url": "x", "title": f"Başlık {split}", "summary": f"Özet\n{split}", "text": "Uzun."}
        lines(tmp_path / f"turkish_{split}.jsonl", [row] * 2)
    task = loaded(tmp_path, "headline", shots=1)
    assert task.items == [Line("Özet: Özet test\nBaşlık:", "Başlık test")] * 2
    assert isinstance(task.shots[0], Line) and "test" not in task.shots[0].reference
    lines(tmp_path / "more.jsonl", [row])
    assert "more.jsonl: no word of the file's name is a split" in error(tmp_path, "headline", shots=1)


def test_validation_split_is_scored_if_there_is_no_test_split(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        rows = [row | {"premise": split} for row in PAIRS]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{split}-00000-of-00001.parquet")
    task = loaded(tmp_path, "xnli", shots=5)
    assert len(task.items) == 6
    assert all(isinstance(item, MultipleChoice) and item.choices[0].startswith("validation") for item in task.items)
    assert all(isinstance(item, MultipleChoice) and item.choices[0].startswith("train") for item in task.shots)


def test_published_sentiment_tables_are_read(tmp_path: Path) -> None:
    indic = [{"ENGLISH REVIEW": "Good.", "LABEL": label, "INDIC REVIEW": "अच्छा।"} for label in ("Positive", None)]
    assert loaded(lines(tmp_path / "hi.json", indic), "sentiment", "hi").items == [
        MultipleChoice("अच्छा।\nभावना:", ("नकारात्मक", "सकारात्मक"), 1)
    ]
    tweets = [{"sarcasm": "True", "sentiment": "neutral", "original_sentiment": "positive", "tweet": "خبر,\nجديد"}]
    assert loaded(table(tmp_path / "ArSarcasm_test.csv", tweets), "sentiment", "ar").items == [
        MultipleChoice("خبر,\nجديد\nالمشاعر:", ("سلبي", "إيجابي", "محايد"), 2)
    ]
    counts = [{"text": "İyi.", "label": 1, "neutral": 0, "positive": 3}]
    assert loaded(lines(tmp_path / "counts.jsonl", counts), "sentiment").items == [
        MultipleChoice("İyi.\nDuygu:", ("olumsuz", "olumlu"), 1)
    ]
    products = [{"Sentence": "ठीक है ।", "Sentiment_Label": label} for label in ("negative", "conflict")]
    path = table(tmp_path / "test.tsv", products, delimiter="\t", lineterminator="\r\n")
    assert "line 3 has \"conflict\" in field 'label', which is none of negative, positive" in error(path, "sentiment")


def test_published_mlama_folder_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines(
        tmp_path / "templates.jsonl",
        [
            {"relation": "P19", "template": "[X], [Y] 'da doğdu .", "label": "place of birth"},
            {"relation": "place_of_birth", "template": "[X], [Y] 'da doğdu ."},
            {"relation": "P31", "template": "[X] bir şeydir ."},
        ],
    )
    facts = (("Ada", "Londra"), ("Cahit", "İstanbul"), ("Nazım", "Selanik"))
    rows = [{"sub_uri": "Q1", "sub_label": one, "obj_label": other, "lineid": 0} for one, other in facts]
    lines(tmp_path / "P19.jsonl", rows)
    lines(tmp_path / "place_of_birth.jsonl", rows[:2])
    lines(tmp_path / "P31.jsonl", rows)
    lines(tmp_path / "P999.jsonl", rows)
    (tmp_path / "P20.jsonl").write_text("")
    task = loaded(tmp_path, "mlama")
    assert "no template with [X] and [Y] for P20, P31, P999; left out" in capsys.readouterr().out
    assert len(task.items) == 5
    # Relations alternate, and each has its own objects as choices, though two share a template.
    assert [len(item.choices) for item in task.items if isinstance(item, MultipleChoice)] == [3, 2, 3, 2, 3]
    assert task.items[2] == MultipleChoice(
        "Cahit,", ("Londra 'da doğdu .", "İstanbul 'da doğdu .", "Selanik 'da doğdu ."), 1
    )
    lines(tmp_path / "P19.jsonl", [rows[0], {"sub_label": "Ada"}])
    assert "P19.jsonl: line 2 has no field 'obj_label'" in error(tmp_path, "mlama")
    lines(tmp_path / "templates.jsonl", [{"relation": "P1", "template": "[X] [Y]"}])
    assert "no file is named after a relation of templates.jsonl" in error(tmp_path, "mlama")


def test_mlama_table_of_all_languages_is_filtered_by_language(tmp_path: Path) -> None:
    rows = [
        {"language": language, "predicate_id": relation, "template": "[X] [Y] .", "sub_label": "A", "obj_label": place}
        for language, relation, place in (
            ("tr", "P17", "Türkiye"), ("tr", "P17", "Fransa"), ("tr", "P30", "Asya"), ("de", "P17", "Türkei"),
        )
    ]  # fmt: skip
    task = loaded(lines(tmp_path / "test.jsonl", rows), "mlama")
    assert [item.choices for item in task.items if isinstance(item, MultipleChoice)] == [
        ("Türkiye .", "Fransa ."), ("Türkiye .", "Fransa ."), ("Asya .",),
    ]  # fmt: skip


def test_only_the_full_stop_of_a_premise_is_removed(tmp_path: Path) -> None:
    rows = [
        {"premise": premise, "choice1": "அது", "choice2": "இது", "question": "cause", "label": 0}
        for premise in ("குழாயைத் திறந்தான்", "குழாயைத் திறந்தான்.")
    ]
    task = loaded(lines(tmp_path / "val.ta.jsonl", rows), "xcopa", "ta")
    assert {item.query for item in task.items} == {"குழாயைத் திறந்தான் காரணமாக"}


def test_candidates_are_compared_without_surrounding_spaces(tmp_path: Path) -> None:
    row = {"template": "[X] [Y]", "sub_label": "A", "obj_label": "Paris ", "candidates": [" Roma", "Paris "]}
    assert loaded(lines(tmp_path / "rows.jsonl", [row]), "mlama").items == [MultipleChoice("A", ("Roma", "Paris"), 1)]
    assert kinds.with_candidates([]) == []
