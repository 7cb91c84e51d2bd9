"""What a report says clinicians: sections made from strategies whose risks are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_comparison import BINARY
from toy_findings import expit, findings, risks

from experiments.clinical.calibration import calibration_section
from experiments.clinical.conformal import conformal_section
from experiments.clinical.decisions import decisions_section
from experiments.clinical.evidence import evidence
from experiments.comparison import to_csv
from experiments.reporting.comparison_page import comparison_html
from experiments.section import Section, Table
from experiments.sections import Findings
from experiments.statistics.intervals import Interval
from fusion import Task

KINDS = {"early": "fusion", "late": "fusion", "codes": "modality", "boosted_counts": "control"}


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """The best fusion is too extreme threefold, the best modality right, the control knows nothing; two folds."""
    target, x = risks(1200)
    rng = np.random.default_rng(0)
    seen = x + rng.normal(0, 0.8, 1200)
    predictions = {
        "early": [expit(3 * x), expit(3 * x)],
        "late": [expit(seen)] * 2,
        "codes": [expit(0.72 * seen - 0.2)] * 2,
        "boosted_counts": [rng.uniform(0.2, 0.4, 1200)] * 2,
    }
    return findings(tmp_path_factory.mktemp("toy"), BINARY, target, predictions, KINDS, folds=2)


def column(table: Table, head: str) -> list[Any]:
    return [row[list(table.heads).index(head)] for row in table.rows]


def must(section: Section | None) -> Section:
    assert section is not None
    return section


def test_calibration_is_told_of_the_best_of_each_kind(binary: Findings) -> None:
    found = must(calibration_section(binary))
    assert found.words[0].startswith("early: risks are too extreme, slope 0.3")
    assert "; codes only: risks are not shown to be too extreme or too timid, slope" in found.words[0]
    assert "each fold's own 300 tuning rows" in found.words[2]
    assert set(column(found.tables["calibration"], "strategy")) == {
        "early", "late", "codes only", "boosted_counts (control)",
    }  # fmt: skip
    assert found.tables["calibration"].note == ""
    assert found.pictures["calibration"].png[:4] == b"\x89PNG"
    assert "late" not in found.pictures["calibration"].shows


def test_recalibration_mends_what_is_wrong_and_leaves_what_is_right(binary: Findings) -> None:
    table = must(calibration_section(binary)).tables["recalibration"]
    mine = {(row[0], row[1]): dict(zip(table.heads, row, strict=True)) for row in table.rows}
    for way in ("temperature", "Platt", "isotonic"):
        for score in ("ECE", "Brier score", "log loss"):
            assert mine["early", way][f"{score}, change"].high < 0, (way, score)
    change = mine["codes only", "temperature"]["Brier score, change"]
    assert change.low < 0.002
    assert change.high > -0.002
    assert mine["early", "none"]["ECE, change"] == ""


def test_each_fold_is_recalibrated_by_its_own_tuning_rows(tmp_path: Path) -> None:
    target, x = risks(4000)
    sharp = np.where(np.arange(4000) // 2 % 2 == 0, 4.0, 0.5)
    found = evidence(findings(tmp_path, BINARY, target, {"early": [expit(sharp * x)]}, {"early": "fusion"}, folds=2))

    def spread(_: Any, known: Any, new: Any) -> Any:
        return np.full(len(new), np.std(np.log(known / (1 - known))))

    sizes = found.fitted("early", spread)[0]
    assert sizes[found.fold == 0] == pytest.approx(4.0 * np.std(x), rel=0.1)
    assert sizes[found.fold == 1] == pytest.approx(0.5 * np.std(x), rel=0.1)


def test_thresholds_are_chosen_on_tuning_patients_only(binary: Findings) -> None:
    before = must(decisions_section(binary)).tables["alerts"]
    held_out = binary.held_out
    upside_down = {name: [1 - each for each in seeds] for name, seeds in held_out.predictions.items()}
    changed = replace(held_out, target=1 - held_out.target, predictions=upside_down)
    after = must(decisions_section(binary._replace(held_out=changed))).tables["alerts"]
    assert column(before, "threshold") == column(after, "threshold")
    assert column(before, "sensitivity") != column(after, "sensitivity")
    early = {row[1]: dict(zip(before.heads, row, strict=True)) for row in before.rows if row[0] == "early"}
    assert early["sensitivity 90%"]["sensitivity"].value == pytest.approx(0.9, abs=0.05)
    assert early["specificity 95%"]["specificity"].value == pytest.approx(0.95, abs=0.03)
    ppv, per_case = early["sensitivity 90%"]["PPV"], early["sensitivity 90%"]["alerts per true case"]
    assert (per_case.value, per_case.low, per_case.high) == pytest.approx((1 / ppv.value, 1 / ppv.high, 1 / ppv.low))
    assert "alerts per 100 patients" in before.heads


def test_what_knows_nothing_is_worth_nothing(binary: Findings) -> None:
    found = must(decisions_section(binary))
    assert "boosted_counts (control) at no threshold shown" in found.words[0]
    assert "early at " in found.words[0]
    assert set(found.pictures) == {"decision_curve"}


def test_sets_of_classes_and_intervals_of_numbers(binary: Findings, tmp_path: Path) -> None:
    found = must(conformal_section(binary))
    for span in column(found.tables["conformal"], "coverage"):
        assert span.value == pytest.approx(0.9, abs=0.05)
    kinds = [row for row in found.tables["conformal_classes"].rows if row[:3] == ["early", "by class", "event"]]
    assert kinds[0][4].value == pytest.approx(0.9, abs=0.06)
    assert "also chose the epoch" in found.words[1]
    rng = np.random.default_rng(0)
    value = rng.normal(size=800)
    task = Task("regression")
    numbers = findings(tmp_path, task, value + rng.normal(size=800), {"early": [value]}, {"early": "fusion"})
    (row,) = must(conformal_section(numbers)).tables["conformal"].rows
    assert row[1].value == pytest.approx(0.9, abs=0.05)
    assert row[2].value == pytest.approx(2 * 1.645, abs=0.4)
    assert calibration_section(numbers) is None
    assert decisions_section(numbers) is None


def test_several_classes_and_several_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 600)
    three = np.eye(3)[kind] * 0.5 + rng.dirichlet([1, 1, 1], 600) * 0.5
    classes = findings(tmp_path, Task("multiclass", ("a", "b", "c")), kind, {"early": [three]}, {"early": "fusion"})
    assert calibration_section(classes) is None
    heads = must(conformal_section(classes)).tables["conformal"].heads
    assert "share more" in heads
    target, x = risks(600)
    other, z = risks(600, 1)
    labels = Task("multilabel", ("death", "stay"))
    both = np.stack([expit(x), expit(z)], axis=1)
    several = findings(tmp_path, labels, np.stack([target, other], axis=1), {"early": [both]}, {"early": "fusion"})
    table = must(calibration_section(several)).tables["calibration"]
    assert column(table, "label") == ["death", "stay"]
    assert all(span.low < 1 < span.high for span in column(table, "slope"))
    assert conformal_section(several) is None


def test_runs_without_tuning_predictions_say_less(binary: Findings) -> None:
    files = {
        name: [[path.with_name("bare.npz") for path in folds] for folds in seeds]
        for name, seeds in binary.held_out.files.items()
    }
    np.savez(next(iter(files.values()))[0][0], predictions=np.zeros(1))
    bare = binary._replace(held_out=replace(binary.held_out, files=files))
    assert set(must(calibration_section(bare)).tables) == {"calibration", "brier_parts"}
    assert set(must(decisions_section(bare)).tables) == {"net_benefit"}
    assert conformal_section(bare) is None


def test_intervals_in_tables_are_three_columns_of_a_file_and_two_lines_of_a_page(binary: Findings) -> None:
    undefined = Interval(float("nan"), float("nan"), float("nan"))
    table = Table(["who", "score"], [["a", Interval(0.5, 0.25, float("inf"))], ["b", undefined], ["c", ""]])
    assert to_csv(*table.spread()) == "who,score,score low,score high\na,0.5,0.25,\nb,,,\nc,,,\n"
    html = comparison_html(binary.comparison, [Section("x", [], {"t": table})])
    assert ">0.500<small>0.250 to no bound<" in html
    assert ">not defined<" in html
