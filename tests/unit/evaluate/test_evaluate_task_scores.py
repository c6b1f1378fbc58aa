"""Scores of generated lines against sacrebleu's, and their treatment of non-Latin scripts."""

import json
from pathlib import Path

import pytest
from evaluate_tiny import byte_level_tokenizer, save_model

from nemo_adapt import bootstrap
from nemo_adapt.errors import UserError
from nemo_adapt.evaluate import models
from nemo_adapt.evaluate.tasks import load, scores, writing

HYPOTHESES = ["Kedi ağacın altında uyuyor.", "Hava bugün çok güzel.", "बिल्ली सो रही है", "..."]
REFERENCES = ["Kedi ağacın altında yatıyor.", "Bugün hava güzel.", "बिल्ली पेड़ के नीचे सो रही है", "Su."]


def test_word_tokenizer_keeps_combining_marks() -> None:
    assert scores.Words().tokenize("बिल्ली, सो रही है!") == ["बिल्ली", "सो", "रही", "है"]
    assert scores.Words().tokenize("தமிழ் மொழி.") == ["தமிழ்", "மொழி"]
    assert scores.Words().tokenize("Kedi'nin 3 evi") == ["kedi", "nin", "3", "evi"]


def test_chrf_and_spbleu_equal_those_of_sacrebleu(tmp_path: Path) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    import sentencepiece

    text = tmp_path / "text.txt"
    text.write_text("\n".join(REFERENCES + HYPOTHESES) * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "spm"), vocab_size=50, minloglevel=2
    )
    model = tmp_path / "spm.model"
    rows = scores.lines(HYPOTHESES, REFERENCES, model, rouge=False)
    found = scores.values(rows)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    cut = [[" ".join(pieces.encode(text, out_type=str)) for text in texts] for texts in (HYPOTHESES, REFERENCES)]
    expected = sacrebleu.corpus_bleu(cut[0], [cut[1]], tokenize="none", force=True).score
    assert found["spbleu"] == pytest.approx(expected) and 5 < expected < 95
    low, high = bootstrap.interval(2 * list(rows["spbleu"]), scores.combine("spbleu"))
    assert low <= found["spbleu"] <= high
    assert list(scores.lines(HYPOTHESES, REFERENCES, None, rouge=False)) == ["chrf"]


def test_turkish_dotted_and_dotless_i_are_lowercased() -> None:
    assert scores.Words().tokenize("İSTANBUL'da IŞIK, İyi") == ["istanbul", "da", "işik", "iyi"]


def test_rouge_counts_words_of_non_latin_scripts() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    rows = scores.lines(HYPOTHESES, REFERENCES, None, rouge=True)
    assert [round(value) for value, _ in rows["rouge_l"]] == [75, 57, 73, 0]


def test_spbleu_model_is_found_in_the_cache_or_by_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU", str(tmp_path))
    assert scores.spbleu_model("") is None
    path = tmp_path / scores.FLORES_MODEL
    path.parent.mkdir()
    path.touch()
    assert scores.spbleu_model("") == path
    with pytest.raises(UserError, match="not a SentencePiece model"):
        scores._pieces(path, ["a"])
    with pytest.raises(UserError, match=r"spbleu_model: .*other does not exist"):
        scores.spbleu_model(str(tmp_path / "other"))


def test_generated_translations_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sacrebleu")
    folder = save_model(tmp_path / "model", byte_level_tokenizer())
    candidate = models.inspect(folder, folder)
    path = tmp_path / "task.jsonl"
    rows = [{"en": f"Cat {number}.", "tr": f"Kedi {number}."} for number in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from nemo_adapt.config import EvaluateConfig

    (task,) = load.load(EvaluateConfig(shots={"translation": 1}), {"translation.en-tr": path})
    found = writing.run(models.load(candidate), candidate.tokenizer, task, 4, candidate.positions, frozenset({5}), None)
    assert found.metric == "chrf" and len(found.rows["chrf"]) == 4
    assert found.facts["tokens"] > 0 and found.facts["lines"][0]["reference"] == "Kedi 4."
