"""Searches held against each other: curves by hand, plain verdicts, and a whole race on small patients."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from experiments.config import StudyConfig, parse_config
from experiments.race import CONTROLS, Anytime, Leg, Race, anytime, run_race
from fusion import UsageError

START = datetime(2026, 1, 1)


def ended(minute: int, value: float | None, *seconds: float) -> FrozenTrial:
    """A trial that ended after some minutes, with the seconds of its epochs; without a value it was pruned."""
    return FrozenTrial(
        number=minute,
        state=TrialState.PRUNED if value is None else TrialState.COMPLETE,
        value=value,
        datetime_start=START,
        datetime_complete=START + timedelta(minutes=minute),
        params={},
        distributions={},
        user_attrs={"history": [{"seconds": each} for each in seconds]},
        system_attrs={},
        intermediate_values={},
        trial_id=0,
    )


def test_a_curve_counts_everything_that_was_trained() -> None:
    trials = [ended(9, 0.7, 1, 1), ended(3, 0.6, 1), ended(5, None, 2, 2, 2), ended(12, 0.65, 1)]
    found = anytime(trials, True, {})
    assert found.epochs.tolist() == [0, 1, 4, 6, 7]
    assert found.seconds.tolist() == [0, 1, 7, 9, 10]
    assert found.best[1:].tolist() == [0.6, 0.6, 0.7, 0.7]
    lower = anytime(trials, False, {"supernet": {"epochs": 10, "seconds": 30.0}})
    assert lower.epochs.tolist() == [10, 11, 14, 16, 17]
    assert lower.best[1:].tolist() == [0.6] * 4


def race(metric: str = "auroc", **scores: list[float]) -> Race:
    curve = Anytime(np.array([0.0, 4.0]), np.array([0.0, 9.0]), np.array([np.nan, 0.7]))
    legs = [Leg(name, i, "s", curve, 0.7, value) for name, values in scores.items() for i, value in enumerate(values)]
    return Race("demo", metric, "random", tuple(legs))


def test_a_method_that_is_better_each_time_is_said_to_be() -> None:
    [found] = race(tpe=[0.72, 0.75, 0.71], random=[0.70, 0.73, 0.69]).differences()
    assert found.gaps == pytest.approx((0.02, 0.02, 0.02))
    assert found.shown
    [found] = race(tpe=[0.74, 0.70, 0.71], random=[0.70, 0.70, 0.70]).differences()
    # mean 0.01667, spread 0.02082, t(0.975, 2) = 4.303: plus or minus 0.0517
    assert (found.low, found.high) == pytest.approx((0.01667 - 0.05172, 0.01667 + 0.05172), abs=1e-4)
    assert not found.shown


def test_the_verdict_is_plain() -> None:
    text = race(tpe=[0.72, 0.74], random=[0.72, 0.75]).verdict()
    assert text.startswith("tpe did not beat random search: -0.005 (")
    assert text.endswith("in AUROC; +0.000, -0.010")
    better = race("brier", tpe=[0.11, 0.11, 0.10], random=[0.21, 0.20, 0.20]).verdict()
    assert better.startswith("tpe beat random search: +0.097")


def test_one_repeat_shows_nothing() -> None:
    [found] = race(tpe=[0.9], random=[0.5]).differences()
    assert not found.shown


@pytest.fixture
def config(small_folder: Path, tmp_path: Path) -> StudyConfig:
    data: dict[str, Any] = {
        "name": "small",
        "runs": tmp_path / "runs",
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 1, "batch_size": 32},
        "space": {"encoders": {"codes": "bag", "notes": ["bag", "none"]}, "fusion": ["late", "early"], "dim": 8},
        "search": {"trials": 2, "startup_trials": 1},
        "tracking": {"enabled": False},
    }
    found = parse_config(data)
    assert isinstance(found, StudyConfig)
    return found


def test_a_race_is_run_and_written(config: StudyConfig, tmp_path: Path) -> None:
    methods: dict[str, Any] = {"study": {}, "random": CONTROLS["random"]}
    found = run_race(config, methods, "random", repeats=2, seeds=1, workers=1, progress=False)
    assert [(leg.method, leg.repeat, leg.study) for leg in found.legs] == [
        ("study", 0, "small.study-0"),
        ("study", 1, "small.study-1"),
        ("random", 0, "small.random-0"),
        ("random", 1, "small.random-1"),
    ]
    assert all(leg.curve.epochs[-1] == 2 for leg in found.legs), "the same budget"
    assert all(0 < leg.retrained < 1 for leg in found.legs)
    page = found.write(tmp_path / "control")
    assert "beat random search" in page.read_text(encoding="utf-8")
    assert len((tmp_path / "control" / "race.csv").read_text(encoding="utf-8").splitlines()) == 5
    again = run_race(config, methods, "random", repeats=2, seeds=1, workers=1, progress=False)
    assert again.differences() == found.differences(), "what was done is not done again"


def test_the_control_is_one_of_the_methods(config: StudyConfig) -> None:
    with pytest.raises(UsageError, match="the control must be among the methods study; got 'random'"):
        run_race(config, {"study": {}}, "random")
