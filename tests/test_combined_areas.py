"""Sums of AUROCs over pairs are those of AUROCs ranked one by one, with ties, several rows a patient and folds."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import scoring
from experiments.metrics import METRICS
from experiments.scoring import weighted_sum
from experiments.statistics import combined_areas as module

AUROC = METRICS["auroc"]


@pytest.mark.parametrize("bca", [False, True])
def test_sums_of_areas_are_those_of_ranked_ones(bca: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    target = (rng.random(120) < 0.3).astype(np.float32)
    subjects = np.arange(120) // 2
    predictions = [np.round(target + rng.normal(size=120), 1).astype(np.float32) for _ in range(5)]
    weights = rng.normal(size=(3, 5))
    tested = scoring.Tested.of(target, subjects, subjects % 2, resamples=80, bca=bca)
    single = [tested.score([AUROC], each)["auroc"] for each in predictions]
    monkeypatch.setattr(module, "_CELLS", 2000)  # several blocks
    for found, mine in zip(tested.combined(AUROC, predictions, weights), weights, strict=True):
        expected = weighted_sum(mine, single)
        assert found.folds == pytest.approx(expected.folds)
        assert found.distribution == pytest.approx(expected.distribution, abs=1e-5, nan_ok=True)
        assert (found.left_out is None) == (not bca)
        if expected.left_out is not None:
            assert found.left_out == pytest.approx(expected.left_out, abs=1e-5)


def test_one_class_has_no_area_and_other_metrics_are_summed_too() -> None:
    tested = scoring.Tested.of(np.zeros(20), np.arange(20), resamples=10)
    (found,) = tested.combined(AUROC, [np.arange(20.0)], np.ones((1, 1)))
    assert np.isnan(found.distribution).all()
    assert np.isnan(found.value)
    brier = METRICS["brier"]
    (found,) = tested.combined(brier, [np.full(20, 0.5), np.zeros(20)], np.array([[1.0, 2.0]]))
    assert found.value == pytest.approx(0.25)
