"""Metrics against numbers by hand and against scikit-learn."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from experiments.config import TrainingConfig
from experiments.metrics import METRICS, default_metric, metrics_for, score
from experiments.train import selection_metric
from fusion import Task, UsageError
from fusion.task import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)


def evaluate(name: str, target: Any, prediction: Any, weight: Any = None) -> float:
    given_weight = None if weight is None else np.asarray(weight, float)
    return METRICS[name](np.asarray(target), np.asarray(prediction, float), given_weight)


def test_auroc_counts_pairs_in_the_right_order() -> None:
    # positives 0.8 and 0.4 against negatives 0.6 and 0.2: 3 of 4 pairs are right
    assert evaluate("auroc", [1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2]) == 0.75


def test_auroc_counts_a_tie_as_half_a_pair() -> None:
    assert evaluate("auroc", [1, 0], [0.5, 0.5]) == 0.5
    assert evaluate("auroc", [1, 0, 0], [0.5, 0.5, 0.1]) == 0.75


def test_average_precision_by_hand() -> None:
    # the hits come at ranks 1 and 3: (1/1 + 2/3) / 2
    assert evaluate("auprc", [1, 0, 1, 0], [0.8, 0.6, 0.4, 0.2]) == pytest.approx(5 / 6)
    # one threshold takes everything: its precision is the prevalence
    assert evaluate("auprc", [1, 0, 0, 0], [0.5] * 4) == 0.25


def test_brier_log_loss_and_calibration_by_hand() -> None:
    assert evaluate("brier", [1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)
    assert evaluate("log_loss", [1, 0], [0.8, 0.4]) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    # bin 0.9-1: mean 0.95, half are hits; bin 0.1-0.2: mean 0.15, none: (2 * 0.45 + 2 * 0.15) / 4
    assert evaluate("ece", [1, 0, 0, 0], [0.95, 0.95, 0.15, 0.15]) == pytest.approx(0.3)


def test_a_certain_and_wrong_prediction_has_a_finite_log_loss() -> None:
    assert evaluate("log_loss", [1], [0.0]) == pytest.approx(-math.log(1e-7))


def test_multiclass_by_hand() -> None:
    target, prediction = [0, 1, 2], [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]]
    assert evaluate("accuracy", target, prediction) == pytest.approx(2 / 3)
    assert evaluate("brier", target, prediction) == pytest.approx((0.14 + 0.62 + 0.06) / 3)
    assert evaluate("log_loss", target, prediction) == pytest.approx(
        -(math.log(0.7) + math.log(0.4) + math.log(0.8)) / 3
    )
    assert evaluate("auroc_ovr", target, prediction) == 1.0
    # the winners' confidences 0.7, 0.5, 0.8 are alone in their bins; they hit, miss and hit
    assert evaluate("ece", target, prediction) == pytest.approx((0.3 + 0.5 + 0.2) / 3)


def test_regression_by_hand() -> None:
    assert evaluate("rmse", [1, 2, 3], [1, 2, 6]) == pytest.approx(math.sqrt(3))
    assert evaluate("mae", [1, 2, 3], [1, 2, 6]) == 1.0
    assert evaluate("r2", [1, 2, 3], [1, 2, 6]) == 1 - 9 / 2


def test_a_class_or_label_that_never_occurs_does_not_enter_the_average() -> None:
    prediction = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1]]
    assert evaluate("auroc_ovr", [0, 1], prediction) == 1.0
    labels = [[1, 0], [0, 0]]
    assert evaluate("auroc_macro", labels, [[0.2, 0.5], [0.1, 0.5]]) == 1.0


@pytest.mark.parametrize("constant", [0, 1])
def test_one_class_is_undefined_without_a_warning(constant: int) -> None:
    found = score(Task("binary"), np.full(4, constant), np.array([0.1, 0.2, 0.3, 0.4]))
    assert math.isnan(found["auroc"])
    assert math.isnan(found["auprc"]) == (constant == 0)
    assert math.isfinite(found["brier"])


def test_r2_of_a_constant_target_is_undefined() -> None:
    assert math.isnan(evaluate("r2", [2, 2], [1, 3]))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_targets_of_every_type_count_alike(dtype: type) -> None:
    target, prediction = np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.4, 0.2])
    expected = score(Task("binary"), target.astype(float), prediction)
    assert score(Task("binary"), target.astype(dtype), prediction) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40),
    st.integers(0, 2**20),
)
@settings(max_examples=25, deadline=None)
def test_ranked_metrics_equal_scikit_learn_with_ties_and_weights(rows: list[tuple[bool, int]], seed: int) -> None:
    target = np.array([float(positive) for positive, _ in rows])
    prediction = np.array([level / 6 for _, level in rows])
    weight = np.random.default_rng(seed).integers(1, 4, len(rows)).astype(float)
    if 0 < target.sum() < len(target):
        expected = sklearn_metrics.roc_auc_score(target, prediction, sample_weight=weight)
        assert METRICS["auroc"](target, prediction, weight) == pytest.approx(expected, abs=1e-12)
    if target.sum():
        expected = sklearn_metrics.average_precision_score(target, prediction, sample_weight=weight)
        assert METRICS["auprc"](target, prediction, weight) == pytest.approx(expected, abs=1e-12)


def test_every_other_metric_equals_scikit_learn() -> None:
    rng = np.random.default_rng(7)
    classes = rng.integers(0, 3, 50)
    shares = rng.dirichlet(np.ones(3), 50)
    labels = rng.random((50, 3)) < 0.4
    found = score(Task("multiclass", ("a", "b", "c")), classes, shares)
    assert found["auroc_ovr"] == pytest.approx(
        sklearn_metrics.roc_auc_score(classes, shares, multi_class="ovr"), abs=1e-12
    )
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(classes, shares), abs=1e-9)
    assert found["accuracy"] == sklearn_metrics.accuracy_score(classes, shares.argmax(1))
    found = score(Task("multilabel", ("a", "b", "c")), labels.astype(float), shares)
    for average in ("macro", "micro"):
        expected = sklearn_metrics.roc_auc_score(labels, shares, average=average)
        assert found[f"auroc_{average}"] == pytest.approx(expected, abs=1e-12)
    expected = sklearn_metrics.average_precision_score(labels, shares, average="macro")
    assert found["auprc_macro"] == pytest.approx(expected, abs=1e-12)
    sets = (labels, shares >= 0.5)
    for name, theirs in (("jaccard", sklearn_metrics.jaccard_score), ("f1", sklearn_metrics.f1_score)):
        assert found[name] == pytest.approx(theirs(*sets, average="samples", zero_division=1.0), abs=1e-12)
    value, guess = rng.normal(size=50), rng.normal(size=50)
    found = score(Task("regression"), value, guess)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(value, guess), abs=1e-12)


def test_sets_of_labels_by_hand() -> None:
    target = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    predicted = np.array([[0.9, 0.2, 0.7, 0.5], [0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.3, 0.1], [0.6, 0.1, 0.1, 0.1]])
    found = score(Task("multilabel", tuple("abcd")), target, predicted)
    assert found["jaccard"] == pytest.approx((1 / 4 + 1 + 0 + 0) / 4)  # nothing predicted of nothing is right
    assert found["f1"] == pytest.approx((2 / 5 + 1 + 0 + 0) / 4)
    assert found["auprc_samples"] == pytest.approx(((1 + 2 / 4) / 2 + 1 / 3) / 2)  # ties are one step
    assert np.isnan(score(Task("multilabel", tuple("abcd")), target[1:2], predicted[1:2])["auprc_samples"])


def test_average_precision_of_rows_is_that_of_each_row_alone() -> None:
    rng = np.random.default_rng(1)
    target, predicted = rng.random((40, 6)) < 0.4, rng.integers(0, 4, (40, 6)) / 4
    each = [sklearn_metrics.average_precision_score(t, p) for t, p in zip(target, predicted, strict=True) if t.any()]
    assert METRICS["auprc_samples"](target, predicted) == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_weight_of_two_is_a_row_given_twice_and_zero_one_left_out(name: str) -> None:
    rng = np.random.default_rng(3)
    kind = METRICS[name].kinds[0]
    count = 30
    wide = kind in ("multiclass", "multilabel")
    prediction = rng.dirichlet(np.ones(3), count) if wide else rng.random(count)
    target: Any = {
        "binary": rng.integers(0, 2, count),
        "multiclass": rng.integers(0, 3, count),
        "multilabel": rng.integers(0, 2, (count, 3)),
        "regression": rng.random(count),
    }[kind]
    weight = rng.integers(0, 3, count)
    rows = np.repeat(np.arange(count), weight)
    weighted = METRICS[name](target, prediction, weight.astype(float))
    assert weighted == pytest.approx(METRICS[name](target[rows], prediction[rows]), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_metrics_and_a_default_among_them(kind: Kind) -> None:
    assert default_metric(kind) in metrics_for(kind)


def test_error_metrics_are_lower_is_better() -> None:
    lower = {name for name, metric in METRICS.items() if not metric.higher_is_better}
    assert lower == {"brier", "ece", "log_loss", "rmse", "mae"}


def test_an_unknown_metric_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"metric for a binary task 'aurocc'; did you mean 'auroc'\?"):
        selection_metric(Task("binary"), TrainingConfig(metric="aurocc"))


def test_a_metric_of_another_kind_of_task_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown metric for a binary task 'rmse'"):
        selection_metric(Task("binary"), TrainingConfig(metric="rmse"))
