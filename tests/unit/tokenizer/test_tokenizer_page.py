"""The command of docs/tokenizer.md does what the page says."""

import json
import shlex
from pathlib import Path

import zstandard
from tokenizer_samples import english, sentencepiece_base, target, write

from nemo_adapt import cli

PAGE = Path(__file__).parents[3] / "docs" / "tokenizer.md"


def test_docs_command_does_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sentencepiece_base(tmp_path / "models/llama-2")
    for folder in ("text/tr", "flores"):
        (tmp_path / folder).mkdir(parents=True)
    records = "".join(json.dumps({"text": line}) + "\n" for line in target())
    (tmp_path / "text/tr/a.jsonl.zst").write_bytes(zstandard.compress(records.encode()))
    write(tmp_path / "text/en.txt", english())
    write(tmp_path / "flores/en.txt", english(50))
    write(tmp_path / "flores/tr.txt", target(50))
    (line,) = (
        line for line in PAGE.read_text().replace("\\\n", " ").splitlines() if line.startswith("nemo-adapt tokenizer")
    )
    verb, *words = shlex.split(line)[1:]
    for place in ("models", "text", "flores"):
        words = [word.replace(f"/{place}/", f"{tmp_path}/{place}/") for word in words]
    cli.command(verb, words)
    made = tmp_path / "runs/tr/tokenizer"
    assert {"token_map.json", "learn.json", "fertility.json", "tokenizer.json", "tokenizer.model"} <= {
        path.name for path in made.iterdir()
    }
    learned = json.loads((made / "learn.json").read_text())
    assert learned["asked"] == 10_000 and 100 < learned["added"] < 10_000
    assert "the text supports no more" in capsys.readouterr().out
    rows = json.loads((made / "fertility.json").read_text())
    tokens = {(row["tokenizer"], row["language"]): row["tokens"] for row in rows}
    assert tokens["extended", "tr"] < 0.4 * tokens["base", "tr"]
    assert tokens["extended", "en"] >= 0.99 * tokens["base", "en"]
