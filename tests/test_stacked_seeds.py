"""Seeds of a comparison and of retraining come to the same whether they are trained together or one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import comparing
from experiments import stacked as stacked_module
from experiments.bundle import load_bundle
from experiments.comparing import compare_config, run_job
from experiments.config import Config, TrainingConfig, parse_config
from experiments.jobs import JobFailure
from experiments.loop import NotFinite
from experiments.retraining import retrain_job
from experiments.stackable import groups
from fusion import Architecture, Spec
from search.space import Candidate

BAGS = Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec("early"), 8)
ORDERED = TrainingConfig(epochs=2, batch_size=32, batch_order=0)


def settings(folder: Path, runs: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "runs": str(runs),
        "data": {"folder": str(folder), "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": ORDERED.model_dump(),
        "compare": {"seeds": 2, "folds": 1, "resamples": 100, "controls": False, "fusions": ["early", "gated"]},
        "tracking": {"enabled": False},
        **changes,
    }


@pytest.fixture
def config(small_folder: Path, tmp_path: Path) -> Config:
    model = {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": "early", "dim": 8}
    return parse_config(settings(small_folder, tmp_path, model=model))


def test_seeds_are_together_where_they_can_be() -> None:
    assert groups(BAGS, ORDERED, [7, 8, 9]) == [[7, 8, 9]]
    assert groups(BAGS, ORDERED.model_copy(update={"batch_order": None}), [7, 8]) == [[7], [8]]
    assert groups(Architecture(BAGS.encoders, Spec("gated"), 8), ORDERED, [7, 8]) == [[7], [8]]
    assert groups(BAGS, ORDERED, [7]) == [[7]]


def job(config: Config, folder: Path, seeds: list[int]) -> dict[str, Any]:
    contender = {"architecture": BAGS.to_dict(), "control": None, "training": ORDERED.model_dump()}
    return {"config": config.model_dump(mode="json"), "folder": str(folder), "contender": contender, "seeds": seeds}


def test_predictions_of_seeds_together_are_those_of_each_alone(config: Config, tmp_path: Path) -> None:
    together = run_job(job(config, tmp_path / "together", [5, 6]))
    for seed, path in zip((5, 6), together, strict=True):
        (alone,) = run_job(job(config, tmp_path / "alone", [seed]))
        with np.load(str(path)) as first, np.load(str(alone)) as second:
            np.testing.assert_allclose(first["predictions"], second["predictions"], atol=1e-5)
            assert first["tuning"] == pytest.approx(second["tuning"], abs=1e-5)
    assert together[0] != together[1]


def test_a_seed_that_diverges_is_a_failure_of_its_own(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_stacked = stacked_module.train_stacked

    def second_fails(*args: Any, **options: Any) -> list[Any]:
        return [train_stacked(*args, **options)[0], NotFinite("the loss is nan in epoch 1")]

    monkeypatch.setattr(stacked_module, "train_stacked", second_fails)
    good, bad = run_job(job(config, tmp_path / "predictions", [5, 6]))
    assert Path(str(good)).is_file()
    assert bad == JobFailure("NotFinite: the loss is nan in epoch 1")
    assert len(list((tmp_path / "predictions").iterdir())) == 1


def test_a_comparison_trains_the_seeds_of_small_contenders_together(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def here(function: Any, jobs: Any, *_: Any) -> list[Any]:
        asked.extend((each["contender"]["architecture"]["fusion"]["name"], len(each["seeds"])) for each in jobs)
        return [function(each) for each in jobs]

    monkeypatch.setattr(comparing, "run_jobs", here)
    found, _ = compare_config(config, progress=False)
    assert asked == [("early", 2), ("gated", 1), ("gated", 1), ("early", 2), ("early", 2)]
    assert {row.strategy for row in found.rows} == {"early", "gated", "codes", "notes"}
    assert all(len(row.seeds) == 2 for row in found.rows)


def test_retraining_together_gives_the_bundle_of_each_seed(small_folder: Path, tmp_path: Path) -> None:
    space = {"encoders": {"codes": ["bag"], "notes": ["bag"]}, "fusion": ["early"], "dim": 8}
    study = parse_config(settings(small_folder, tmp_path / "runs", space=space, search={"trials": 1}))
    shared = {"config": study.model_dump(mode="json"), "candidate": Candidate(BAGS, {}).to_dict(), "name": "tiny"}
    folders = [str(tmp_path / name) for name in ("first", "second")]
    together = retrain_job({**shared, "seeds": [11, 12], "folders": folders})
    assert [folder for _, folder in together] == folders
    for seed, (score, folder) in zip((11, 12), together, strict=True):
        [(alone, other)] = retrain_job({**shared, "seeds": [seed], "folders": [str(tmp_path / "alone")]})
        assert score == pytest.approx(alone, abs=1e-5)
        first, second = load_bundle(Path(folder)), load_bundle(Path(other))
        assert first.contract["seed"] == second.contract["seed"] == seed
        for name, weight in first.model.state_dict().items():
            np.testing.assert_allclose(weight.numpy(), second.model.state_dict()[name].numpy(), atol=1e-5)
