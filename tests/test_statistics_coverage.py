"""Coverage of 95% intervals on a few small cohorts; `benchmarks/coverage.py` is the long version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def coverage() -> Any:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_true_values_are_those_of_a_very_large_cohort(coverage: Any) -> None:
    from experiments.metrics import METRICS

    setting = coverage.Setting(200_000, 0.2, 0.8)
    _, target, risks = setting.draw(np.random.default_rng(0))
    truth = setting.truth()
    for name in coverage.SINGLE:
        assert METRICS[name](target, risks[0]) == pytest.approx(truth[name], abs=0.005)
    difference = METRICS["auroc"](target, risks[0]) - METRICS["auroc"](target, risks[1])
    assert difference == pytest.approx(truth["auroc difference"], abs=0.005)


@pytest.mark.parametrize("rows", [1, 4])
def test_intervals_hold_the_truth_about_as_often_as_they_say(coverage: Any, rows: int) -> None:
    found = coverage.coverage(coverage.Setting(150, 0.3, 0.75, rows=rows), cohorts=150, resamples=200)
    assert len(found) == 10  # four estimates by two bootstraps, two of them by DeLong as well
    for (name, method), share in found.items():
        assert 0.88 <= share <= 0.995, (name, method)
    assert 0.925 <= np.mean(list(found.values())) <= 0.975
