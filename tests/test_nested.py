"""Nested tuning: the same number of draws for every strategy, judged in each fold, away from who is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_comparison import here, tiny_config

from experiments import comparing, nested
from experiments.compare_config import TuneConfig
from experiments.comparing import compare_config
from experiments.config import parse_config
from experiments.contenders import Contender, chosen, contenders
from experiments.jobs import JobFailure
from fusion import UsageError

ENCODERS = {"codes": "bag", "notes": "bag"}
TUNE = TuneConfig(trials=4)


def test_every_strategy_draws_as_many_settings_its_own_first(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, ENCODERS, "early", fusions=["early", "gated"])
    strategies = contenders(chosen(config))
    for name, each in strategies.items():
        found = nested.drawn(each, config, TUNE)
        assert found[0] == each
        if each.control is not None:
            assert found == [each]
            continue
        assert len(found) == 4
        assert all(found.count(one) == 1 for one in found)
        assert found == nested.drawn(each, config, TUNE), f"{name} draws the same again"
        rates = [one.training["lr"] for one in found[1:]]
        assert all(3e-4 <= rate <= 1e-2 for rate in rates)
        for one in found:
            assert one.architecture is not None
            assert each.architecture is not None
            assert one.architecture.fusion.name == each.architecture.fusion.name
            assert {m: s.name for m, s in one.architecture.encoders.items()} == {
                m: s.name for m, s in each.architecture.encoders.items()
            }
            assert one.architecture.dim == 8


def test_what_an_experiment_states_is_pinned_and_what_a_study_allows_is_drawn(tmp_path: Path) -> None:
    stated = tiny_config(tmp_path, ENCODERS, "early").model_dump(mode="json")
    stated["model"]["encoders"]["codes"] = {"name": "bag", "dropout": 0.25}
    config = parse_config(stated)
    drawn = nested.drawn(contenders(chosen(config))["early"], config, TuneConfig(trials=6))
    assert {one.architecture.encoders["codes"].params["dropout"] for one in drawn if one.architecture} == {0.25}
    study = {each: stated[each] for each in ("name", "runs", "data", "training", "compare", "tracking")}
    space = {
        "encoders": {"codes": {"bag": {"dropout": [0.1, 0.4]}}, "notes": ["bag"]},
        "fusion": ["early"],
        "dim": [8, 12],
    }
    searched = parse_config({**study, "space": space, "search": {"trials": 1}})
    found = nested.drawn(Contender("fusion", config.model.architecture()), searched, TuneConfig(trials=12))  # type: ignore[union-attr]
    assert {one.architecture.encoders["codes"].params["dropout"] for one in found[1:] if one.architecture} == {0.1, 0.4}
    assert {one.architecture.dim for one in found[1:] if one.architecture} == {8, 12}


def test_a_space_with_fewer_settings_than_draws_is_used_up(tmp_path: Path) -> None:
    stated = tiny_config(tmp_path, ENCODERS, "early").model_dump(mode="json")
    stated["model"]["encoders"] = {name: {"name": "bag", "dropout": 0.25} for name in ENCODERS}
    stated["model"]["fusion"] = {"name": "early", "layers": 1, "dropout": 0.1}
    config = parse_config(stated)
    few = TuneConfig(trials=50, training={"class_weights": [False, True]})
    found = nested.drawn(contenders(chosen(config))["early"], config, few)
    assert 3 <= len(found) < 50
    assert {one.training.get("class_weights") for one in found} == {None, False, True}


def test_the_best_on_tuning_patients_is_tested_in_each_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, ENCODERS, "early", folds=2, fusions=["early"], controls=False, tune={"trials": 3})
    judged: dict[tuple[int, str], list[float]] = {}
    trained: list[dict[str, Any]] = []

    def place(job: dict[str, Any]) -> tuple[int, str]:
        return job["fold"], " ".join(job["contender"]["architecture"]["encoders"])

    def judge(_: Any, jobs: Any, *__: Any) -> list[Any]:
        """Score a candidate by its learning rate; the last of each strategy fails."""
        found: list[Any] = []
        for job in jobs:
            rates = judged.setdefault(place(job), [])
            rates.append(job["contender"]["training"]["lr"])
            found.append(JobFailure("it hung") if len(rates) == 3 else rates[-1])
        return found

    def train(work: Any, jobs: Any, *_: Any) -> list[Any]:
        trained.extend(jobs)
        return here(work, jobs)

    monkeypatch.setattr(nested, "run_jobs", judge)
    monkeypatch.setattr(comparing, "run_jobs", train)
    _, folder = compare_config(config, progress=False)
    assert {len(rates) for rates in judged.values()} == {3}
    assert len({place(job) for job in trained}) == len(judged) == 3 * 2
    for job in trained:
        assert job["contender"]["training"]["lr"] == max(judged[place(job)][:2])
    lines = (folder / "tuning.csv").read_text().splitlines()
    assert lines[0] == "strategy,fold,tuning score before,after,chosen settings"
    assert len(lines) == 1 + 3 * 2
    html = (folder / "comparison.html").read_text()
    assert "Each strategy had 3 settings tried in each fold" in html


def test_a_candidate_is_trained_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(tmp_path, ENCODERS, "early")
    contender = contenders(chosen(config))["codes"]
    settings = {
        "config": config.model_dump(mode="json"),
        "folder": str(tmp_path / "tuning"),
        "contender": contender.plain(config.training),
        "fold": 0,
    }
    score = nested.run_tuning_job(settings)
    assert np.isfinite(score)
    monkeypatch.setattr(nested, "train", lambda *_, **__: pytest.fail("trained again"))
    assert nested.run_tuning_job(settings) == score


def test_tuning_at_equal_work_and_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tuned strategies are of different size"):
        tiny_config(tmp_path, ENCODERS, "early", equal="flops", tune={"trials": 3})
    config = tiny_config(tmp_path, ENCODERS, "early", tune={"trials": 3, "training": {"lrr": [0.1]}})
    with pytest.raises(UsageError, match=r"unknown training setting 'lrr'.*lr"):
        compare_config(config, progress=False)
