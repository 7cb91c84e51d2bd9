"""What mattered and what was never tried: planted answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from encoders import ENCODERS
from experiments.study_report import study_report
from fusion import FUSIONS
from search.analysis import never_together, never_tried
from search.importance import importance, variance_shares
from search.space import Space

UNIT = FloatDistribution(0.0, 1.0)
SPACE = {"encoders": {"codes": ["bag", "gru"], "notes": ["bag", "none"]}, "fusion": ["late", "early"], "dim": [8, 16]}


def trial(score: float, params: dict[str, Any], **attributes: Any) -> FrozenTrial:
    places: dict[str, Any] = {
        name: UNIT if isinstance(value, float) else CategoricalDistribution(["late", "early"])
        for name, value in params.items()
    }
    return create_trial(
        state=TrialState.COMPLETE, value=score, params=params, distributions=places, user_attrs=attributes
    )


def architecture(fusion: str, codes: str, notes: str | None) -> dict[str, Any]:
    encoders = {"codes": {"name": codes}, **({"notes": {"name": notes}} if notes else {})}
    return {"encoders": encoders, "fusion": {"name": fusion}, "dim": 8}


def planted(direction: str = "maximize", trials: int = 120) -> optuna.Study:
    """`late` is better, and with it a choice that only `late` has decides; `noise` does nothing."""
    rng = np.random.default_rng(1)
    study = optuna.create_study(direction=direction)
    for _ in range(trials):
        fusion = "late" if rng.random() < 0.5 else "early"
        params: dict[str, Any] = {"fusion": fusion, "noise": float(rng.random())}
        if fusion == "late":
            params["fusion.late.dropout"] = float(rng.random())
        score = 0.2 * (fusion == "late") + 0.3 * params.get("fusion.late.dropout", 0.0)
        about = {"architecture": architecture(fusion, "bag", "bag"), "training": {}}
        study.add_trial(trial(score if direction == "maximize" else -score, params, **about))
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_choice_that_hangs_on_another_is_found_and_noise_is_not(direction: str) -> None:
    found = importance(planted(direction))
    assert set(found) == {"fusion", "fusion.late.dropout", "noise"}
    assert abs(sum(found.values()) - 1) < 1e-9
    assert list(found)[-1] == "noise"
    assert found["noise"] < 0.2
    assert found["fusion.late.dropout"] > 0.3


def test_shares_of_the_variation_by_hand() -> None:
    study, rng = optuna.create_study(direction="maximize"), np.random.default_rng(0)
    for _ in range(200):
        a, b = rng.random(2).tolist()
        study.add_trial(trial(3 * a + b, {"a": a, "b": b}))  # variances 9/12 and 1/12
    found = variance_shares(study)
    assert abs(found["a"] - 0.9) < 0.05
    assert variance_shares(study) == found, "the forest has a seed"


def test_a_choice_some_trials_never_made_has_no_share() -> None:
    assert set(variance_shares(planted())) == {"fusion", "noise"}


def test_a_copied_score_counts_once() -> None:
    study = planted()
    before, shares = importance(study), variance_shares(study)
    for _ in range(40):
        study.add_trial(trial(9.0, {"fusion": "early", "noise": 0.99}, duplicate_of=0))
    assert importance(study) == before
    assert variance_shares(study) == shares


def test_too_little_says_nothing() -> None:
    assert importance(planted(trials=7)) == {}
    assert variance_shares(planted(trials=0)) == {}
    study = optuna.create_study()
    study.add_trials([trial(0.5, {"noise": i / 10}) for i in range(9)])
    assert importance(study) == {}, "all scored the same"


def tried(fusion: str, codes: str, notes: str | None, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    return create_trial(
        state=state, value=value, user_attrs={"architecture": architecture(fusion, codes, notes), "training": {}}
    )


def test_pairs_that_were_never_tried() -> None:
    space = Space.from_dict({**SPACE, "training": {}}, ENCODERS, FUSIONS, {})
    trials = [tried("late", "bag", "bag"), tried("early", "gru", "bag", TrialState.FAIL)]
    apart, pairs = never_together(space, trials)
    assert pairs == 2 * (2 + 2)
    assert apart == [("late", "codes gru"), ("late", "notes none"), ("early", "codes bag"), ("early", "notes none")]
    assert never_tried(space, trials) == ["notes none"]
    waiting = create_trial(state=TrialState.WAITING)
    assert never_tried(space, [*trials, waiting]) == ["notes none"], "who chose nothing yet left nothing out"
    assert never_together(space, [*trials, tried("late", "gru", None)])[0] == apart[2:]


def test_the_page_tells_both(tmp_path: Path) -> None:
    study = planted()
    study.set_user_attr("metric", "auroc")
    study.set_user_attr("config", {"space": SPACE})
    study.add_trial(tried("early", "gru", "bag", TrialState.FAIL))
    page = study_report(study, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Never tried: notes none." in page
    assert (
        "Never tried together, 3 of 8 pairs: late with codes gru, late with notes none, early with notes none." in page
    )
    assert "over the whole space" in page
    assert "fusion.late.dropout" in page
