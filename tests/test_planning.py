"""What a comparison says beforehand, and the notes under its tables."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_comparison import BINARY, noisy, patients

from experiments.comparison import compare_predictions
from experiments.config import Config, parse_config
from experiments.held_out import HeldOut
from experiments.metrics import METRICS, primary_metric
from experiments.planning import power_line, registered_primary
from experiments.reporting.comparison_page import comparison_html
from experiments.reporting.rank_diagram import rank_diagram_png
from experiments.statistics.power import smallest_difference
from experiments.statistics.ranks import mean_ranks
from fusion import Task, UsageError

KINDS = {"late": "fusion", "early": "fusion", "codes": "modality"}


def config(**compare: Any) -> Config:
    model = {"encoders": {"codes": "bag"}}
    return parse_config({"name": "plan", "data": {"folder": "nowhere"}, "compare": compare, "model": model})


def held_out(positives: int, negatives: int, rows: int = 1) -> HeldOut:
    count = positives + negatives
    subjects = np.repeat(np.arange(count), rows)
    target = np.repeat([1.0, 0.0], [positives * rows, negatives * rows])
    return HeldOut(np.arange(len(target)), subjects, np.zeros(len(target), np.int64), target, {})


def test_the_smallest_difference_is_said_for_patients_and_for_all_comparisons() -> None:
    said = power_line(config(power={"auroc": 0.8, "correlation": 0.7}), BINARY, held_out(60, 240, rows=3), strategies=8)
    one, all_pairs = (
        smallest_difference(60, 240, auroc=0.8, correlation=0.7, level=level) for level in (0.05, 0.05 / 28)
    )
    assert said == (
        "smallest difference in AUROC that 60 patients with the outcome and 240 without could show (power 80%, "
        f"AUROC 0.8, correlation 0.7): {one:.3f}, at most {all_pairs:.3f} corrected for all 28 pairs"
    )
    assert "corrected" not in power_line(config(), BINARY, held_out(60, 240), strategies=2)


def test_too_few_patients_for_anything_are_told_so() -> None:
    assert power_line(config(), BINARY, held_out(3, 3), 8).startswith(
        "3 patients with the outcome and 3 without could not show any difference in AUROC"
    )
    assert "perhaps no difference at all, corrected for all 2001000 pairs" in power_line(
        config(), BINARY, held_out(25, 200), 2001
    )
    assert power_line(config(), BINARY, held_out(0, 9), 8).startswith("0 patients with the outcome and 9 without could")


def planned(kind: Any, target: Any, metric: str, **power: Any) -> str:
    count = len(target)
    tested = HeldOut(np.arange(count), np.arange(count), np.zeros(count, np.int64), target, {})
    return power_line(config(power=power), Task(kind), tested, 3, METRICS[metric])


def test_other_metrics_have_a_smallest_difference_too() -> None:
    rng = np.random.default_rng(0)
    said = planned("regression", rng.normal(0, 4, 400), "rmse", explained=0.36)
    start = "smallest difference in RMSE that 400 patients could show (power 80%, 36% of the variance explained, "
    assert said.startswith(start + "correlation 0.5; simulated, at RMSE 3.")  # sqrt(0.64) of 4
    assert "corrected for all 3 pairs" in said
    assert "(power 80%, AUROC 0.75 of each class, correlation 0.5; simulated, at AUROC (one against" in planned(
        "multiclass", rng.integers(0, 3, 200), "auroc_ovr"
    )
    labels = (rng.random((200, 2)) < 0.3).astype(float)
    assert "in AUROC (mean over labels) that 200 patients" in planned("multilabel", labels, "auroc_macro", auroc=0.8)
    assert "in AUPRC that 200 patients" in planned("binary", labels[:, 0], "auprc")
    assert planned("multilabel", np.zeros((50, 2)), "auroc_macro") == (
        "the smallest difference is not known for AUROC (mean over labels), because it is not defined on most samples "
        "of these patients"
    )


def test_the_primary_metric_is_written_down_first_and_a_change_is_told(tmp_path: Path) -> None:
    said, warnings = registered_primary(tmp_path / "compare", METRICS["auprc"], stated=True)
    assert said.startswith("AUPRC, stated in compare.primary; the same since ")
    assert warnings == []
    plan = (tmp_path / "compare" / "plan.json").read_text(encoding="utf-8")
    assert json.loads(plan)["primary"] == "auprc"
    assert registered_primary(tmp_path / "compare", METRICS["auprc"], stated=True) == (said, [])
    said, (warning,) = registered_primary(tmp_path / "compare", METRICS["auroc"], stated=False)
    assert said.startswith("AUROC, the metric that picks epochs")
    assert warning.startswith("the primary metric is AUROC, but it was AUPRC when this comparison was first run (")
    assert (tmp_path / "compare" / "plan.json").read_text(encoding="utf-8") == plan


def test_the_primary_metric_is_the_one_stated_or_else_the_one_that_picks_epochs() -> None:
    def primary(metric: str | None, **compare: Any) -> str:
        found = config(**compare)
        return primary_metric(BINARY, found.compare, found.training.model_copy(update={"metric": metric})).name

    assert (primary(None), primary("auprc"), primary("auprc", primary="brier")) == ("auroc", "auprc", "brier")
    with pytest.raises(UsageError, match=r"compare\.primary: unknown metric for a binary task 'mae'"):
        primary(None, primary="mae")


def shown(found: Any) -> tuple[str, str]:
    """Return a comparison as on the terminal, in one line, and as a page."""
    from rich.console import Console

    console = Console(width=400, record=True, file=io.StringIO())
    console.print(found.render())
    return console.export_text(), comparison_html(found)


def test_one_class_is_not_defined_everywhere_and_told_why() -> None:
    _, hidden = patients(40)
    predictions = {"late": noisy(hidden, 0.2), "codes": noisy(hidden, 0.4)}
    found = compare_predictions(BINARY, np.zeros(40), np.arange(40), predictions, KINDS, resamples=100)
    assert found.verdict() == "AUROC is not defined on these patients: nothing can be said of what is best"
    for text in shown(found):
        assert not re.search(r"\bnan\b", re.sub(r"base64,[^']*", "", text))
        assert "AUROC is not defined: it needs both outcomes among the held-out rows" in text
    assert "nan" not in found.to_csv() + found.differences_csv()


def test_constant_predictions_have_an_area_of_one_half_and_a_note() -> None:
    target, hidden = patients(200)
    predictions = {"late": noisy(hidden, 0.2), "early": [np.full(200, 0.3)] * 2, "codes": [np.full(200, 0.3)]}
    found = compare_predictions(BINARY, target, np.arange(200), predictions, KINDS, resamples=100)
    row = next(row for row in found.ranking() if row.strategy == "early")
    assert (row.value, row.low, row.high, row.seed_sd) == (0.5, 0.5, 0.5, 0.0)
    assert "early: 2 of 2 seeds predict the same for everybody" in found.footnotes
    assert "codes: 1 of 1 seeds predict the same for everybody" in found.footnotes
    assert all(np.isfinite(each.p_delong) for each in found.differences)


def test_a_perfect_prediction_against_a_constant_one_has_no_p_of_delong() -> None:
    target = np.repeat([0.0, 1.0], 20)
    predictions = {"late": [target * 0.8 + 0.1], "codes": [np.full(40, 0.3)]}
    found = compare_predictions(BINARY, target, np.arange(40), predictions, KINDS, resamples=100)
    assert np.isnan(found.differences[0].p_delong)
    assert any(note.startswith("DeLong's p value is not defined") for note in found.footnotes)


def test_resamples_without_a_positive_are_counted_in_a_note() -> None:
    target, hidden = np.zeros(40), np.linspace(-1, 1, 40)
    target[[30, 38]] = 1
    found = compare_predictions(BINARY, target, np.arange(40), {"late": [hidden]}, KINDS, resamples=500)
    (note,) = [note for note in found.footnotes if "resamples" in note]
    share = float(note.split(" is not defined in ")[1].split("%")[0])
    assert share == pytest.approx(100 * (1 - 2 / 40) ** 40, abs=5)


def test_predictions_that_are_not_finite_are_refused() -> None:
    broken = np.array([0.1, np.nan, np.inf, 0.2])
    with pytest.raises(UsageError, match="late: 2 of 4 predictions of seed 0 are not finite"):
        compare_predictions(BINARY, np.array([0.0, 1, 0, 1]), np.arange(4), {"late": [broken]}, KINDS, resamples=100)


@pytest.mark.parametrize("strategies", [3, 30])
def test_the_diagram_of_ranks(strategies: int) -> None:
    scores = np.random.default_rng(0).random((5, strategies))
    names = [f"strategy {i}" for i in range(strategies)]
    data = rank_diagram_png(mean_ranks(names, scores, higher_is_better=True))
    assert data.startswith(b"\x89PNG\r\n")
    assert rank_diagram_png(mean_ranks(names, scores, higher_is_better=False)) != data
