"""The small world: grammar by examples, parallel and reproducible text, a base folder that loads."""

import itertools
import json
import random
import re
import unicodedata
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nemo_adapt.errors import UserError
from nemo_adapt.smallworld import arabic, english, hindi, turkish
from nemo_adapt.smallworld.concepts import LANGUAGES, WORDS, Word
from nemo_adapt.smallworld.draw import Scene
from nemo_adapt.smallworld.make import make
from nemo_adapt.smallworld.patterns import FRAMES, Slot, parse, realize
from nemo_adapt.smallworld.world import SCENES, documents

SMALL = {"documents": 60, "vocab": 300, "hidden": 96, "layers": 1}


def table(text: str) -> list[list[str]]:
    """Rows end with a semicolon or a line, fields with a bar; one space around a bar is not part of the field."""
    rows = [row for line in text.strip().splitlines() for row in line.split("; ")]
    return [[field.removeprefix(" ").removesuffix(" ") for field in row.strip().split("|")] for row in rows]


def word(kind: str, name: str) -> Word:
    return WORDS[kind][name]


def sentence(frame: str, language: str, **words: Word) -> str:
    return realize(frame, language, words.__getitem__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smallworld") / "world"
    assert make(path, **SMALL)
    return path


def lines(folder: Path, name: str) -> list[str]:
    return (folder / "text" / f"{name}.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("stem", "forms", "expected"),
    table("""
        ev | loc | evde; okul | loc | okulda; park | loc | parkta; ofis | abl | ofisten
        kitap:kitab | acc | kitabı; kitap:kitab | loc | kitapta; köpek:köpeğ | acc | köpeği
        çekiç:çekic | poss | çekici; araba | dat | arabaya; araba | gen | arabanın; gül | acc | gülü
        köprü | ins | köprüyle; otobüs | ins | otobüsle; kuş | pl | kuşlar; kedi | pl | kediler
        saat~ | acc | saati; saat~ | loc | saatte; su:suy | gen | suyun; meyve suyu+ | acc | meyve suyunu
        havaalanı+ | loc | havaalanında; havaalanı+ | poss | havaalanı; anahtar | poss.acc | anahtarını
        anne | poss.dat | annesine; çanta | my | çantam; kalem | my | kalemim; kamera | yours | kameran
        doktor | dir | doktordur; aç | was | açtı; hasta | was | hastaydı; üzgün | was | üzgündü
        dükkân | acc | dükkânı; şehir:şehr | dat | şehre
    """),
)
def test_turkish_suffixes(stem: str, forms: str, expected: str) -> None:
    assert turkish.suffixed(stem, forms) == expected


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    [
        ("Ahmed", "loc", "Ahmet'te"),
        ("Ibrahim", "gen", "İbrahim'in"),
        ("Omar", "acc", "Ömer'i"),
        ("Leo", "dat", "Leo'ya"),
    ],
)
def test_turkish_names_take_an_apostrophe(name: str, form: str, expected: str) -> None:
    assert turkish.inflect(word("person", name), form) == expected


@pytest.mark.parametrize(
    ("activity", "form", "expected"),
    table("""
        swim | can | yüzebilir; sleep | can | uyuyabilir; dance | can | dans edebilir
        dance | meyi | dans etmeyi; read books | meyi | kitap okumayı; tell stories | fut | hikâye anlatacak
    """),
)
def test_turkish_verbs(activity: str, form: str, expected: str) -> None:
    assert turkish.inflect(word("activity", activity), form) == expected


@pytest.mark.parametrize(
    ("kind", "name", "form", "expected"),
    table("""
        animal | dog | obl | कुत्ते; animal | dog | pl | कुत्ते; animal | wolf | obl | भेड़िए
        animal | turtle | pl | कछुए; animal | cat | pl | बिल्लियाँ; animal | bird | pl | चिड़ियाँ
        animal | cow | pl | गायें; animal | elephant | pl | हाथी; kin | uncle | obl | चाचा
        person | Maya | obl | माया; place | station | loc | स्टेशन पर; place | room | loc | कमरे में
        food | bread | a | थोड़ी रोटी; activity | drink tea | fut | चाय पिएगा
        activity | sing | fut | गीत गाएगा; activity | play chess | fut | शतरंज खेलेगा
    """),
)
def test_hindi_forms(kind: str, name: str, form: str, expected: str) -> None:
    assert hindi.inflect(word(kind, name), form) == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(
    ("look", "thing", "expected"),
    [("new", "car", "नई"), ("new", "pen", "नया"), ("big", "book", "बड़ी"), ("beautiful", "ring", "सुंदर")],
)
def test_hindi_adjectives_agree(look: str, thing: str, expected: str) -> None:
    agreed = hindi.inflect(word("adjective", look), "agree", word("thing", thing))
    assert agreed == unicodedata.normalize("NFC", expected)


@pytest.mark.parametrize(("thing", "verb"), [("book", "ख़रीदी"), ("pen", "ख़रीदा")])
def test_hindi_perfective_agrees_with_the_object(thing: str, verb: str) -> None:
    slots = {"when": word("past", "yesterday"), "who": word("person", "Omar"), "shop": word("place", "shop")}
    text = sentence("bought", "hi", thing=word("thing", thing), look=word("adjective", "new"), **slots)
    assert text.startswith("कल उमर ने दुकान में एक ")
    assert text.endswith(unicodedata.normalize("NFC", f"{verb}।"))


@pytest.mark.parametrize(
    ("kind", "name", "form", "expected"),
    table("""
        thing | book | acc | كتابًا; thing | car | acc | سيارة; thing | camera | acc | كاميرا
        drink | water | acc | ماءً; food | apple | kind | التفاح; drink | lemonade | def | عصير الليمون
        thing | car | bi | بالسيارة; person | Omar | li | لعمر; place | mountain | at | على الجبل
        thing | bag | my | حقيبتي; animal | cat | defpl | القطط
        activity | play the guitar | object |  على الغيتار
    """),
)
def test_arabic_forms(kind: str, name: str, form: str, expected: str) -> None:
    assert arabic.inflect(word(kind, name), form) == expected


@pytest.mark.parametrize(
    ("kind", "name", "form", "other_kind", "other", "expected"),
    table("""
        adjective | new | agree | thing | car | جديدة; adjective | slow | acc | animal | dog | بطيئًا
        color | red | agree | thing | car | حمراء; color | red | acc | thing | book | أحمر
        color | brown | acc | thing | book | بنيًا; job | doctor | agree | person | Sara | طبيبة
        thing | bag | his | person | Sara | حقيبتها; number | three | count | animal | dog | ثلاثة
        number | three | count | animal | cat | ثلاث; activity | swim | imp | person | Sara | تسبح
        activity | swim | fut | person | Omar | سيسبح; color | yellow | kind | food | banana | أصفر
    """),
)
def test_arabic_agreement(kind: str, name: str, form: str, other_kind: str, other: str, expected: str) -> None:
    assert arabic.inflect(word(kind, name), form, word(other_kind, other)) == expected


@pytest.mark.parametrize(
    ("kind", "name", "form", "expected"),
    table("""
        thing | umbrella | a | an umbrella; food | bread | a | some bread; animal | mouse | pl | mice
        food | peach | kind | peaches; place | mountain | at | on the mountain
        activity | catch fish | s | catches fish; activity | study | s | studies
        activity | play chess | s | plays chess
    """),
)
def test_english_forms(kind: str, name: str, form: str, expected: str) -> None:
    assert english.inflect(word(kind, name), form) == expected


def test_sentences_have_no_unfilled_slots_or_stray_spaces() -> None:
    for seed in range(5):
        for document in itertools.islice(documents(seed), 150):
            for text in document.values():
                assert not re.search(r"[{}|]|  | [.?!।؟]", text), text


def test_every_frame_is_used_and_agrees_only_with_its_own_slots() -> None:
    assert {frame for scene in SCENES for frame in scene} == set(FRAMES)
    for frame, patterns in FRAMES.items():
        assert list(patterns) == list(LANGUAGES)
        for pattern in patterns.values():
            names = {part.name for part in pattern if isinstance(part, Slot)}
            others = {part.other for part in pattern if isinstance(part, Slot) and part.other}
            assert others <= names, frame


def test_the_world_has_many_words_frames_and_sentences() -> None:
    content = sum(len(words) for kind, words in WORDS.items() if not kind.startswith("sky"))
    assert content >= 250
    assert len(FRAMES) >= 25
    sentences = {text for d in itertools.islice(documents(1), 1000) for text in re.split(r"(?<=[.?!]) ", d["en"])}
    assert len(sentences) > 2000


def test_facts_do_not_depend_on_the_seed() -> None:
    def homes(seed: int) -> set[str]:
        text = "\n".join(document["en"] for document in itertools.islice(documents(seed), 1500))
        return set(re.findall(r"\b(?!He |She )[A-Z]\w+ lives in \w+", text))

    both = homes(1) | homes(2)
    assert len(both) == len({line.split()[0] for line in both}) > 20


def test_a_slot_is_drawn_once() -> None:
    scene = Scene(random.Random(0), {"who": word("person", "Sara")})
    assert scene.get("thing") is scene.get("thing")
    assert scene.get("home") is Scene(random.Random(9), {"who": word("person", "Sara")}).get("home")


def test_an_invalid_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        parse("{who lives")


def test_same_seed_same_bytes_other_seed_other_text(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "again", **SMALL)
    make(tmp_path / "other", seed=8, **SMALL)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(folder)).read_bytes() == path.read_bytes(), path
    assert lines(tmp_path / "other", "en.train") != lines(folder, "en.train")


def test_files_are_aligned_and_held_out_text_is_disjoint(folder: Path) -> None:
    for split in ("train", "heldout"):
        assert len({len(lines(folder, f"{language}.{split}")) for language in LANGUAGES}) == 1
    assert len(lines(folder, "en.train")) == SMALL["documents"]
    for language in LANGUAGES:
        train = lines(folder, f"{language}.train")
        assert not set(train) & set(lines(folder, f"{language}.heldout"))
        assert len(set(train)) == len(train)


@pytest.mark.parametrize(
    ("language", "letters", "typical"),
    [
        ("en", r"[A-Za-zé]", "w"),
        ("tr", r"[A-Za-zçğıöşüâÇĞİÖŞÜ]", "ğ"),
        ("hi", r"[\u0900-\u097f]", "है"),
        ("ar", r"[\u0621-\u0652]", "ال"),
    ],
)
def test_each_language_is_in_its_own_script(folder: Path, language: str, letters: str, typical: str) -> None:
    text = "".join(lines(folder, f"{language}.train"))
    assert typical in text
    assert unicodedata.normalize("NFC", text) == text
    assert not re.sub(letters + r"|[ .,?!:;'\"-]|[।؟،]", "", text)


def test_base_loads_and_gives_finite_logits(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    config = json.loads((folder / "base" / "config.json").read_text())
    assert tokenizer.is_fast
    settings = json.loads((folder / "base" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["vocab_size"] == len(tokenizer) == SMALL["vocab"]
    assert not config["tie_word_embeddings"]
    assert tokenizer.bos_token == tokenizer.eos_token == "<|endoftext|>"
    text = lines(folder, "hi.heldout")[0]
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    with torch.no_grad():
        assert torch.isfinite(model(ids).logits).all()


def test_a_second_call_is_skipped_unless_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "world"
    assert make(path, **SMALL)
    before = (path / "base" / "config.json").stat().st_mtime_ns
    assert not make(path, **SMALL)
    assert (path / "base" / "config.json").stat().st_mtime_ns == before
    assert make(path, **{**SMALL, "documents": 30})
    assert len(lines(path, "tr.train")) == 30
    monkeypatch.setattr("nemo_adapt.smallworld.make.version", lambda: "another")
    assert make(path, **{**SMALL, "documents": 30})


def test_an_interrupted_make_leaves_no_finished_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "world"
    with monkeypatch.context() as patch:
        patch.setattr("nemo_adapt.smallworld.make.write_base", _killed)
        with pytest.raises(KeyboardInterrupt):
            make(path, **SMALL)
    assert not path.exists()
    assert make(path, **SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["world"]


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hidden 100"):
        make(tmp_path / "world", hidden=100)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="was not made by smallworld"):
        make(tmp_path / "mine", **SMALL)
