"""Tables, plots and pages of a study's report."""

import csv
import html
import itertools
import json
import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from nemo_adapt.config import Config, RunConfig
from nemo_adapt.evaluate.tables import NOTHING
from nemo_adapt.study import command, plots, report, results, tables
from nemo_adapt.study.results import LOST, REFERENCE, SECONDS, SPEED, TARGET, TOKENS, Row

AXES = {"vocabulary": ["0", "1000", "50000"], "strategy": ["mean", "random_init"]}
TASK = "xcopa Turkish, accuracy, %"


@pytest.fixture
def rows():
    """Larger vocabularies are better, and more so with the mean; the largest halves the base's tokens."""
    return [
        Row(
            {"vocabulary": vocabulary, "strategy": strategy},
            seed,
            {
                TARGET: 1.0 - 0.1 * place + 0.2 * place * (strategy != "mean") + 0.001 * seed,
                REFERENCE: 1.0 + 0.0003 * seed,
                LOST: 0.1 + 0.0003 * seed,
                TASK: 50.0 + 5 * place + seed,
                TOKENS: 2.0 - 0.5 * place,
                SPEED: 1.0 + place,
                SECONDS: 10.0,
            },
            [(100.0, 3.0), (200.0 + seed, 2.0)],
            {TARGET: 3.0, REFERENCE: 0.9, TASK: 50.0, TOKENS: 2.0, SPEED: 1.0},
        )
        for place, vocabulary in enumerate(AXES["vocabulary"])
        for strategy in AXES["strategy"]
        for seed in range(3)
    ]


def test_report_writes_markdown_json_csv_and_plots(rows, tmp_path):
    text = report.write("mine", AXES, rows, 20, "bytes", tmp_path)
    assert text == (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "18 of 20 runs" in text and "counted in bytes" in text
    assert "strategy random_init against mean: +0.2000 ± 0.0000 bits/byte, target (larger than noise" in plain(text)
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn == [
        "strategy-curves.png",
        "strategy-target.png",
        "strategy-tasks.png",
        "vocabulary-curves.png",
        "vocabulary-strategy.png",
        "vocabulary-target.png",
        "vocabulary-tasks.png",
        "vocabulary-tokens.png",
    ]
    assert all(f"(plots/{name})" in text for name in drawn)
    found = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    assert len(found["rows"]) == 18 and found["differences"]["strategy"][TARGET][0]["value"] == "random_init"
    assert found["rows"][0]["base"][TARGET] == 3.0
    with (tmp_path / "study.csv").open(encoding="utf-8") as stream:
        lines = list(csv.reader(stream))
    assert lines[0] == ["vocabulary", "strategy", "seed", TARGET, REFERENCE, LOST, TASK, TOKENS, SPEED, SECONDS]
    assert len(lines) == 19


def plain(markdown):
    """Markdown without its escapes."""
    return re.sub(r"\\(.)", r"\1", markdown)


def test_quality_and_efficiency_tables_of_an_axis(rows):
    quality = tables.quality(AXES, rows, "vocabulary")
    assert quality.columns == ["vocabulary", TARGET, REFERENCE, LOST, TASK]
    assert quality.rows[0] == ["before", "3.0000", "0.9000", NOTHING, "50.0"]
    assert [row[0] for row in quality.rows[1:]] == ["0", "1000", "50000", "1000 less 0", "50000 less 0"]
    # 1 - 0.1 with the mean, 1 + 0.1 without, 0.001 a seed; Student's 4.303 * 0.001 / sqrt(3)
    assert quality.rows[2][1] == "1.0010 ± 0.0025"
    assert quality.rows[4][1:] == ["+0.0000 ± 0.0000", "+0.0000 ± 0.0000", "+0.0000 ± 0.0000", "+5.0"]
    efficiency = tables.efficiency(AXES, rows, "vocabulary")
    assert efficiency.columns == ["vocabulary", TOKENS, SPEED]
    assert efficiency.rows[-1] == ["50000 less 0", "-1.000 ± 0.000*", "+2.00 ± 0.00*"]
    assert not tables.efficiency(AXES, rows, "strategy").rows  # the strategy does not change the tokenizer


def test_gains_table_compares_each_value_with_the_base(rows):
    gains = tables.gains(AXES, rows)
    assert gains.columns == ["", TARGET, REFERENCE, TASK, TOKENS, SPEED]
    assert [row[0] for row in gains.rows] == [
        *(f"vocabulary {value}" for value in AXES["vocabulary"]),
        *("strategy mean", "strategy random_init"),
    ]
    assert gains.rows[0][1] == "-1.9990 ± 0.0025*"
    within = gains.rows[0][3]
    assert within.startswith("+1.0 ± ") and not within.endswith("*")  # the seeds alone contribute 0, 1 and 2


def test_table_of_two_axes_marks_significant_differences(rows):
    found = tables.two_axes(AXES, rows, "vocabulary", "strategy", TARGET)
    assert found.columns == ["vocabulary \\ strategy", "mean", "random_init"]
    marked = [[cell.endswith("*") for cell in row[1:]] for row in found.rows]
    assert marked == [[False, False], [False, True], [False, True]]  # at 0 new tokens the strategies are the same
    assert found.rows[2][2].startswith("1.2010 ")


def test_different_bases_are_listed_with_the_values_that_use_them(rows):
    bases = {"mean": 3.0, "random_init": 4.0}
    rows = [replace(row, base={TARGET: bases[row.values["strategy"]]}) for row in rows]
    lines = tables.quality(AXES, rows, "strategy").rows
    assert [line[:2] for line in lines[:2]] == [["mean, before", "3.0000"], ["random_init, before", "4.0000"]]
    assert tables.quality(AXES, rows, "vocabulary").rows[0][:2] == ["before", "3.5000"]


def test_html_page_is_self_contained_and_escaped(rows, tmp_path):
    evil = "<script>alert(1)</script> | [x](http://example.org)"
    report.write(evil, AXES, rows, 18, "bytes", tmp_path)
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "<script" not in page and html.escape(evil) in page and 'name="viewport"' in page
    links = re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|@import""", page)
    assert len(links) == 8 and all(target.startswith("data:image/png;base64,") for target, _ in links)
    text = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "<script" not in text.replace("\\<", "")
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 6
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_numeric_axis_is_the_x_axis_of_the_plot_of_two_axes(tmp_path):
    axes = {"vocabulary": ["0", "1K"], "bytes": ["400000", "2M"], "language": ["हिन्दी", "tr"]}
    assert plots.numbers(axes["bytes"]) == {"400000": 4e5, "2M": 2e6} and not plots.numbers(axes["language"])
    rows = [
        Row(dict(zip(axes, values, strict=True)), seed, {TARGET: 1.0 + seed, TOKENS: 2.0 * len(values[2])})
        for values in itertools.product(*axes.values())
        for seed in range(2)
    ]
    shown = {one: plots.of_two(axes, rows, "vocabulary", one, tmp_path)[0].shows for one in ("bytes", "language")}
    assert shown == {
        "bytes": f"{TARGET}, by bytes and vocabulary",
        "language": f"{TARGET}, by vocabulary and language",
    }
    assert plots._picture(tmp_path / "plots", "lr/warm up-bits", "").path == "plots/lr_warm_up-bits.png"
    assert plots.labels("language", axes["language"]) == {"हिन्दी": "language 1", "tr": "tr"}


def test_a_line_goes_along_a_numeric_axis_in_any_order_of_its_values(rows, tmp_path, monkeypatch):
    """As where a value was added to the study later."""
    drawn, draw = [], plots.Plot.errorbar

    def noted(plot, across, *others, **named):
        drawn.append(across)
        return draw(plot, across, *others, **named)

    monkeypatch.setattr(plots.Plot, "errorbar", noted)
    axes = {**AXES, "vocabulary": ["0", "50000", "1000"]}
    plots.over(axes, rows, "vocabulary", "strategy", TARGET, tmp_path / "a.png")
    assert drawn == [[0.0, 1000.0, 50000.0]] * 2


def test_a_report_is_written_by_one_process_at_a_time(rows, tmp_path, monkeypatch):
    """Two commands for the same study: one deleted the plots of the other."""
    inside, most = [], []

    def write(*arguments):
        inside.append(arguments)
        most.append(len(inside))
        time.sleep(0.3)
        inside.pop()

    job = SimpleNamespace(cell=SimpleNamespace(name="a"), folder=tmp_path, config=None, why="")
    monkeypatch.setattr(command, "unfinished", lambda jobs: {})
    monkeypatch.setattr(results, "read", lambda *arguments: rows[0])
    monkeypatch.setattr(report, "write", write)
    config = Config(run=RunConfig("mine", str(tmp_path)))
    both = [threading.Thread(target=command.write_report, args=([job], config)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert most == [1, 1]


def test_report_of_a_study_with_one_finished_run(rows, tmp_path):
    text = report.write("mine", AXES, rows[:1], 20, "bytes", tmp_path)
    assert "1 of 20 runs" in text and "## All cells" in text and "less 0" not in text and "\\*" not in text


def test_a_curve_has_all_scores_also_between_the_records_of_the_training(tmp_path):
    """``train.score_every`` need not be a multiple of ``train.log_every``."""
    metrics = [{"step": step, "bytes": 100 * step} for step in (10, 20, 30, 40, 50)]
    held_out = [
        {"step": step, "bytes": size, "bits_per_byte": {"tr": bits}}
        for step, size, bits in ((0, 0, 3.0), (5, 500, None), (25, 2499, 2.75), (50, 5000, 2.5))
    ]
    for name, rows in (("metrics", metrics), ("held_out", held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert results._curve(tmp_path, "tr") == [(0, 3.0), (2499, 2.75), (5000, 2.5)]
