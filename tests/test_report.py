"""Reports and pictures: self-contained, escaped, and saying what they must."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from experiments.comparison import Comparison, compare_predictions
from experiments.drawing import architecture_svg
from experiments.plots import (
    availability_png,
    calibration_png,
    forest_png,
    importance_png,
    progress_png,
    roc_png,
)
from experiments.reporting.comparison_page import comparison_html
from experiments.reporting.page import page
from experiments.reporting.table import facts, table
from experiments.study_report import study_report
from fusion import Task

NASTY = "<script>alert('x')</script>&\"]]>"
ARCHITECTURE = {
    "encoders": {"codes": {"name": "gru", "dropout": 0.12345}, "notes": {"name": "bag"}},
    "fusion": {"name": "cross_attention", "layers": 2},
    "dim": 64,
}


EMPTY = {"meta", "img", "br", "rect", "path", "line", "circle"}


class Page(HTMLParser):
    """What a page loads and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.sources += [str(named[name]) for name in ("src", "href", "data", "srcset") if name in named]
        if tag == "img":
            self.alts.append(str(named.get("alt") or ""))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag


def check(text: str) -> Page:
    """Assert that a page needs nothing but itself and has no foreign markup."""
    found = Page(text)
    assert not found.open
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in found.sources)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert not re.search(r"https?://", text)
    assert all(found.alts)
    return found


def compared(**about: Any) -> Comparison:
    rng = np.random.default_rng(0)
    target = (rng.random(120) < 0.3).astype(float)
    predictions = {
        "late": [np.clip(0.4 * target + 0.6 * rng.random(120), 0, 1) for _ in range(3)],
        "early": [np.clip(0.4 * target + 0.6 * rng.random(120), 0, 1) for _ in range(3)],
        "codes": [rng.random(120)],
    }
    kinds = {"late": "fusion", "early": "fusion", "codes": "modality"}
    return compare_predictions(Task("binary"), target, np.arange(120), predictions, kinds, resamples=100, about=about)


def as_html(comparison: Comparison) -> str:
    return comparison_html(comparison)


def test_the_page_of_a_comparison_needs_nothing_but_itself() -> None:
    found = check(as_html(compared(architecture=ARCHITECTURE)))
    assert {"svg", "table"} <= set(found.tags)


def test_it_says_on_what_and_how_it_was_done() -> None:
    about = {"patients": 120, "rows": 130, "events": 36, "seeds": 3, "resamples": 100}
    text = as_html(compared(**about, budget="at most 5 epochs", data_fingerprint="abc123"))
    for needed in ("120 held-out patients", "130 predictions", "36 events", "3 seeds", "100 resamples"):
        assert needed in text
    assert "at most 5 epochs" in text
    assert "abc123" in text
    assert "was chosen on it" in text


def test_differences_that_include_zero_are_called_no_difference_shown() -> None:
    found = compared()
    close = [each for each in found.differences if each.low < 0 < each.high]
    far = [each for each in found.differences if each.p_all < 0.05]
    assert close
    assert far
    assert as_html(found).count("<td>no difference shown</td>") == len(close)
    assert as_html(found).count("<td>yes</td>") == len(far)


def test_one_seed_has_no_spread() -> None:
    assert "<td>one seed</td>" in as_html(compared())


def test_everything_that_comes_from_outside_is_escaped() -> None:
    found = compared(
        name=NASTY,
        warnings=[NASTY],
        budget=NASTY,
        git_commit=NASTY,
        architecture={
            "encoders": {NASTY: {"name": NASTY, NASTY: NASTY}},
            "fusion": {"name": NASTY},
            "dim": NASTY,
        },
    )
    rows = [dataclasses.replace(row, strategy=row.strategy + NASTY) for row in found.rows]
    text = as_html(dataclasses.replace(found, rows=rows))
    assert "alert(" in text
    assert NASTY not in text
    check(text)


def test_tables_and_facts_are_escaped_and_an_empty_table_says_so() -> None:
    assert table([NASTY], [[NASTY]]).count("&lt;script&gt;") == 3  # head, cell, label
    assert "None." in table(["trial"], [])
    assert "<script" not in facts({NASTY: NASTY})
    assert "seed" not in facts({"seed": None})
    check(page(NASTY, NASTY, []))


def test_an_undefined_metric_is_called_undefined() -> None:
    prediction = np.linspace(0, 1, 20)
    found = compare_predictions(
        Task("binary"),
        np.zeros(20),
        np.arange(20),
        {"late": [prediction], "codes": [prediction]},
        {"late": "fusion", "codes": "modality"},
        resamples=100,
    )
    text = as_html(found)
    assert "not defined" in text
    assert ">nan<" not in text


def is_png(data: bytes) -> bool:
    return data.startswith(b"\x89PNG\r\n") and len(data) > 2000


def test_forest_marks_the_best_possible_value() -> None:
    found = compared()
    assert is_png(forest_png(found))
    assert forest_png(found, reference=0.9, reference_label="Bayes") != forest_png(found)


@pytest.mark.parametrize("maximise", [True, False])
def test_progress_with_pruned_trials_and_one_that_comes_first(maximise: bool) -> None:
    points = [
        {"number": number, "score": score, "fusion": "late", "pruned": pruned}
        for number, score, pruned in [(0, 0.5, True), (1, 0.6, False), (4, 0.7, False), (5, 0.4, True)]
    ]
    assert is_png(progress_png(points, "auroc", maximise))


def test_importance() -> None:
    assert is_png(importance_png({"fusion": 0.7, "dim": 0.3}))


def test_curves_of_ordinary_and_of_extreme_predictions() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(100) < 0.3).astype(float)
    assert is_png(roc_png(target, {"late": rng.random(100), "constant": np.full(100, 0.5)}))
    assert is_png(calibration_png(target, rng.random(100)))
    assert is_png(calibration_png(target, np.ones(100)))
    assert is_png(roc_png(np.zeros(5), {"late": np.linspace(0, 1, 5)}))


def test_availability_counts_also_those_who_have_nothing() -> None:
    assert is_png(availability_png({("codes", "notes"): 5, ("codes",): 3, (): 1}, ["codes", "notes"]))


@pytest.mark.parametrize("modalities", [1, 4])
def test_the_drawing_of_an_architecture_names_every_part(modalities: int) -> None:
    encoders = {f"modality{i}": {"name": f"encoder{i}", "dropout": 0.12345} for i in range(modalities)}
    drawing = architecture_svg({**ARCHITECTURE, "encoders": encoders})
    check(drawing)
    for i in range(modalities):
        assert f"modality{i}: encoder{i}" in drawing
    for needed in ("dropout 0.123", "cross_attention", "layers 2", "width 64", "aria-label"):
        assert needed in drawing


def add_trial(study: optuna.Study, state: str, value: float | None, **attributes: Any) -> None:
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            value=value,
            params={"dim": 32},
            distributions={"dim": optuna.distributions.CategoricalDistribution([32, 64])},
            user_attrs={
                "architecture": ARCHITECTURE,
                "training": {"lr": 0.001},
                "history": [{"epoch": 1, "score": 0.61, "seconds": 2.0}],
                **attributes,
            },
        )
    )


def test_the_page_of_a_study_shows_best_pruned_and_failed_trials(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", study_name="demo")
    for name, value in {"metric": "auroc", "data_fingerprint": "abc123", "git_commit": "fedcba"}.items():
        study.set_user_attr(name, value)
    add_trial(study, "COMPLETE", 0.7317)
    add_trial(study, "PRUNED", None, pruned_by="halving")
    add_trial(study, "FAIL", None, failure=f"NotFinite: {NASTY}")
    path = study_report(study, tmp_path / "deep" / "report.html")
    text = path.read_text(encoding="utf-8")
    check(text)
    for needed in ("0.7317", "halving", "NotFinite", "abc123", "fedcba", "cross_attention", "1 complete"):
        assert needed in text
    assert NASTY not in text
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_the_page_of_a_study_without_trials_says_so(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", study_name="empty")
    text = study_report(study, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no trials yet" in text
    check(text)
