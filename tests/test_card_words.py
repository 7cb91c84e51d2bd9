"""Cards in plain words: glossaries, the most frequent codes, and how easily the prose is read."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from experiments.card import LEAST_EASE, card_prose, model_card
from experiments.config import parse_config
from experiments.feeding import preparations
from experiments.frequent import codes_in_words
from experiments.glossary import MOST, UNNAMED, frequent_codes, gloss, glosses, read_glossary
from experiments.readability import readability
from experiments.workspace import open_store
from fusion import Architecture, UsageError

DESCRIPTION: dict[str, Any] = {
    "architecture": {
        "encoders": {"codes": {"name": "bag"}, "notes": {"name": "bag"}},
        "fusion": {"name": "late"},
        "dim": 8,
    },
    "task": {"kind": "binary", "names": ["outcome"]},
    "contract": {"name": "demo", "codes_in_words": {"Diagnoses": {"ICD10CM//I10": "high blood pressure"}}},
    "metrics": {"auroc": 0.8},
}


def test_readability_of_words_that_are_counted_by_hand() -> None:
    found = readability("The cat sat. The dog ran home.")  # 7 words of one syllable in 2 sentences
    assert found.ease == pytest.approx(206.835 - 1.015 * 3.5 - 84.6)
    assert found.grade == pytest.approx(0.39 * 3.5 + 11.8 - 15.59)
    assert readability("Interdisciplinary methodological considerations necessitate deliberation.").ease < 0
    with pytest.raises(ValueError, match="at least one word"):
        readability("1, 2")


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression"])
def test_the_prose_of_a_card_is_plain_and_the_card_says_so(kind: str) -> None:
    description = {**DESCRIPTION, "task": {"kind": kind, "names": ["a", "b"]}}
    ease = readability(card_prose(description)).ease
    assert ease >= LEAST_EASE
    assert f"Flesch reading ease of this card's prose: {ease:.0f}" in model_card(description).splitlines()[-1]


def test_a_card_says_what_its_codes_mean() -> None:
    assert "- Diagnoses: `ICD10CM//I10` high blood pressure" in model_card(DESCRIPTION)


def test_the_users_glossary_comes_first_then_the_data_then_the_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "simple_icd_10_cm":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    code = "ICD10CM//I10"
    assert gloss(code, {code: "high blood pressure"}, {code: "Essential hypertension"}) == "high blood pressure"
    assert gloss(code, {}, {code: "Essential  hypertension"}) == "Essential hypertension"
    assert gloss(code, {}, {}) == "one of: diseases of the circulatory system"
    assert gloss("LAB//odd", {}, {}) == UNNAMED


def test_the_classification_says_what_a_code_is_where_nobody_else_does() -> None:
    pytest.importorskip("simple_icd_10_cm", reason="simple-icd-10-cm is not installed")
    assert gloss("ICD10CM//I10", {}, {}) == "Essential (primary) hypertension"
    assert gloss("ICD10CM//I99.999", {}, {}) == "one of: diseases of the circulatory system"  # no such code


def test_frequent_codes_are_ranked_in_each_category_and_those_nobody_has_are_left_out() -> None:
    codes = ("ICD10CM//A", "ICD10CM//B", "LAB//x", "ICD10CM//C", "ICD10CM//D")
    found = frequent_codes(codes, np.array([1, 9, 4, 5, 0]), most=2)
    assert found == {"Diagnoses": ["ICD10CM//B", "ICD10CM//C"], "Laboratory values": ["LAB//x"]}
    assert glosses(found, {"LAB//x": "an x"}, {})["Laboratory values"] == {"LAB//x": "an x"}


def test_a_glossary_is_read_and_its_mistakes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text('code,words\nA,"one, two"\n', encoding="utf-8")
    assert read_glossary(path) == {"code": "words", "A": "one, two"}
    assert read_glossary(None) == {}
    path.write_text("A,a\nB\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2: wanted a code and its words, two columns; got 1"):
        read_glossary(path)
    with pytest.raises(UsageError, match=r"card\.glossary: no such file"):
        read_glossary(tmp_path / "none.csv")


def test_codes_are_counted_over_training_patients(small_folder: Path, tmp_path: Path) -> None:
    glossary = tmp_path / "words.csv"
    glossary.write_text("GENDER//F,a woman\n", encoding="utf-8")
    data = {
        "name": "words",
        "runs": tmp_path / "runs",
        "data": {"folder": small_folder},
        "card": {"glossary": str(glossary)},
        "model": {"encoders": {"codes": "bag"}, "fusion": "early"},
    }
    config = parse_config(data)
    store = open_store(config)
    plans = preparations(Architecture.from_dict({"encoders": {"codes": "bag"}, "fusion": "early", "dim": 8}), {})
    found = codes_in_words(config, store, plans)
    assert found["Demographics"]["GENDER//F"] == "a woman"
    assert all(1 <= len(mine) <= MOST for mine in found.values())
    train = store.cohort.subject_ids[store.cohort.rows("train")]
    events = pl.read_parquet(small_folder / "data" / "**" / "*.parquet").filter(
        pl.col("subject_id").is_in(train.tolist())
    )
    have = dict(events.group_by("code").agg(pl.col("subject_id").n_unique()).iter_rows())
    assert next(iter(found["Demographics"])) == "AGE"  # made from the birth that everybody has
    ranked = [have[code] for code in found["Demographics"] if code != "AGE"]
    assert ranked == sorted(ranked, reverse=True)
    assert codes_in_words(config, store, {}) == {}
