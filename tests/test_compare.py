"""Comparisons: paired on the same resamples, honest in words, finding what was planted."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from toy_comparison import BINARY, KINDS, noisy, patients, planted

from experiments.comparison import compare_predictions, evaluate_predictions
from experiments.metrics import METRICS, metrics_for
from fusion import Task


def test_a_planted_difference_is_found_and_said() -> None:
    found = planted()
    assert [row.strategy for row in found.ranking()] == ["late", "early", "codes", "notes"]
    worst = next(each for each in found.differences if {each.first, each.second} == {"late", "notes"})
    assert worst.first == "late"
    assert worst.low > 0
    assert worst.p_all < 0.05
    assert "best fusion: late" in found.verdict()
    assert "no difference shown" not in found.verdict()


def test_an_adjusted_p_value_is_never_below_its_own() -> None:
    assert all(each.p_all >= each.p for each in planted(100).differences)


def test_identical_predictions_differ_by_exactly_nothing() -> None:
    target, hidden = patients(80)
    same = noisy(hidden, 1.0)
    kinds = {"late": "fusion", "codes": "modality"}
    found = compare_predictions(BINARY, target, np.arange(80), {"late": same, "codes": same}, kinds, resamples=100)
    (difference,) = found.differences
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert (difference.p, difference.p_holm, difference.p_all) == (1.0, 1.0, 1.0)
    assert found.verdict().endswith("no difference shown")


def test_an_interval_that_includes_zero_is_called_no_difference() -> None:
    target, hidden = patients(60)
    predictions = {"late": noisy(hidden, 1.0), "codes": noisy(hidden, 1.0, seeds=(5, 6, 7))}
    kinds = {"late": "fusion", "codes": "modality"}
    found = compare_predictions(BINARY, target, np.arange(60), predictions, kinds, resamples=200)
    (difference,) = found.differences
    assert difference.low < 0 < difference.high
    assert found.verdict().endswith("no difference shown")


@pytest.mark.parametrize(("without", "shown"), [(9, False), (10, True)])
def test_of_fewer_than_ten_patients_with_either_outcome_nothing_is_shown(without: int, shown: bool) -> None:
    target = np.repeat([1.0, 0.0], [40, without])
    predictions = {"late": [target], "codes": [1 - target]}
    kinds = {"late": "fusion", "codes": "modality"}
    found = compare_predictions(BINARY, target, np.arange(len(target)), predictions, kinds, resamples=200)
    (difference,) = found.differences
    assert (difference.low, difference.shown) == (1.0, shown)
    assert found.verdict().endswith("no difference shown") != shown
    assert any(note.startswith("there are fewer than 10 held-out patients") for note in found.footnotes) != shown
    twice = {name: [np.tile(each, 2) for each in seeds] for name, seeds in predictions.items()}
    again = np.tile(np.arange(len(target)), 2)  # more rows of the same patients are no more patients
    found = compare_predictions(BINARY, np.tile(target, 2), again, twice, kinds, resamples=200)
    assert found.differences[0].shown == shown


def test_value_is_the_mean_over_seeds_and_their_spread_is_apart() -> None:
    target, hidden = patients(100)
    seeds = noisy(hidden, 1.0)
    found = compare_predictions(BINARY, target, np.arange(100), {"late": seeds}, KINDS, resamples=100)
    by_hand = [METRICS["auroc"](target, each) for each in seeds]
    row = found.ranking()[0]
    assert row.seeds == tuple(by_hand)
    assert row.value == pytest.approx(np.mean(by_hand))
    assert row.seed_sd == pytest.approx(np.std(by_hand, ddof=1))


def test_every_metric_of_the_task_is_reported_and_every_interval_holds_its_value() -> None:
    found = planted()
    names = [metric.name for metric in metrics_for("binary")]
    assert [row.metric for row in found.rows if row.strategy == "codes"] == names
    for row in found.rows:
        assert row.low <= row.value <= row.high, (row.strategy, row.metric)


def test_best_strategy_is_compared_with_every_other_once() -> None:
    pairs = [{each.first, each.second} for each in planted().differences]
    assert all({"late", other} in pairs for other in ("early", "codes", "notes"))
    assert len(pairs) == len({frozenset(pair) for pair in pairs})


def test_where_lower_is_better_the_lowest_leads() -> None:
    found = planted(metric=METRICS["brier"])
    assert found.ranking()[0].value == min(row.value for row in found.rows if row.metric == "brier")


def test_the_same_seed_gives_the_same_comparison_and_another_seed_other_intervals() -> None:
    assert planted(100, seed=3).to_json() == planted(100, seed=3).to_json()
    assert planted(100, seed=3).to_json() != planted(100, seed=4).to_json()


def test_rows_of_one_patient_stay_together() -> None:
    target, hidden = patients(60)
    once, copies = np.arange(60), np.repeat(np.arange(60), 5)
    prediction = noisy(hidden, 1.0)[0]
    alone = evaluate_predictions(BINARY, target, once, prediction, resamples=200)
    repeated = evaluate_predictions(BINARY, target[copies], copies, prediction[copies], resamples=200)
    assert repeated["auroc"].low == pytest.approx(alone["auroc"].low)
    assert repeated["auroc"].high == pytest.approx(alone["auroc"].high)


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_other_kinds_of_tasks_are_compared_by_their_own_metric(kind: Any) -> None:
    rng = np.random.default_rng(0)
    wide = kind != "regression"
    target: Any = {
        "multiclass": rng.integers(0, 3, 90),
        "multilabel": (rng.random((90, 3)) < 0.4).astype(float),
        "regression": rng.normal(size=90),
    }[kind]
    good = np.eye(3)[target] if kind == "multiclass" else target
    shape = (90, 3) if wide else 90
    predictions = {}
    for name, noise in (("late", 0.2), ("codes", 5.0)):
        raw = good + noise * rng.random(shape)
        predictions[name] = [raw / raw.sum(1, keepdims=True) if kind == "multiclass" else raw]
    task = Task(kind, ("a", "b", "c") if wide else ("value",))
    kinds = {"late": "fusion", "codes": "modality"}
    found = compare_predictions(task, target, np.arange(90), predictions, kinds, resamples=100)
    assert found.ranking()[0].strategy == "late"
    assert found.differences[0].p < 0.05


def test_csv_has_a_line_for_each_strategy_and_metric() -> None:
    lines = list(csv.DictReader(io.StringIO(planted(100).to_csv())))
    assert list(lines[0]) == ["strategy", "kind", "metric", "value", "low", "high", "seed_sd", "seeds"]
    assert len(lines) == 4 * len(metrics_for("binary"))
    assert {line["kind"] for line in lines} == {"fusion", "modality"}
    assert all(float(line["low"]) <= float(line["value"]) <= float(line["high"]) for line in lines)


def test_json_is_strict_also_where_a_metric_is_not_defined() -> None:
    target, prediction = np.zeros(20), np.linspace(0, 1, 20)
    found = compare_predictions(
        BINARY, target, np.arange(20), {"late": [prediction]}, {"late": "fusion"}, resamples=100
    )

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    rows = json.loads(found.to_json(), parse_constant=refuse)["rows"]
    assert next(row for row in rows if row["metric"] == "auroc")["value"] is None
