"""The first trials of a study."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from encoders import ENCODERS
from experiments.config import StudyConfig, parse_config
from experiments.searching import run_search
from experiments.studies import load_study
from fusion import FUSIONS
from search.first import ORIGIN, add_first, baselines
from search.space import Space

SPACE = {
    "encoders": {"codes": ["bag", "gru"], "notes": ["none", "bag"]},
    "fusion": ["early", "late"],
    "dim": [8, 16],
}


def test_a_baseline_is_each_fusion_over_the_first_encoder_of_every_modality() -> None:
    space = Space.from_dict(SPACE, ENCODERS, FUSIONS, {})
    plain = {"encoders.codes": "bag", "encoders.notes": "bag"}
    assert baselines(space) == [{**plain, "fusion": "early"}, {**plain, "fusion": "late"}]


def test_what_is_first_is_tried_first_and_the_rest_of_it_is_sampled() -> None:
    space, study = Space.from_dict(SPACE, ENCODERS, FUSIONS, {}), optuna.create_study()
    add_first(study, baselines(space), "baseline")
    found = [space.suggest(study.ask()) for _ in range(2)]
    assert [each.architecture.fusion.name for each in found if each] == ["early", "late"]
    assert all(each is not None and list(each.architecture.encoders) == ["codes", "notes"] for each in found)
    assert all(each is not None and each.architecture.dim in (8, 16) for each in found)


@pytest.mark.parametrize(("trials", "expected"), [(1, ["early"]), (3, ["early", "late"])])
def test_a_search_with_baselines_keeps_its_budget_also_when_it_goes_on(
    small_folder: Path, tmp_path: Path, trials: int, expected: list[str]
) -> None:
    def run(count: int) -> optuna.Study:
        config = parse_config(
            {
                "name": "first",
                "runs": str(tmp_path / "runs"),
                "data": {"folder": str(small_folder), "labels": "outcome"},
                "space": SPACE | {"encoders": {"codes": ["bag", "gru"]}},
                "training": {"epochs": 1},
                "search": {"trials": count, "workers": 1, "baselines": True, "sampler": "random"},
                "tracking": {"enabled": False},
            }
        )
        assert isinstance(config, StudyConfig)
        run_search(config, live=False)
        return load_study(config)

    found = [each for each in run(trials).trials if each.user_attrs.get(ORIGIN) == "baseline"]
    assert [each.params["fusion"] for each in found] == expected
    again = run(trials + 1)
    assert sum(each.user_attrs.get(ORIGIN) == "baseline" for each in again.trials) == len(expected), "once a study"
    roots = [each for each in again.trials if each.user_attrs.get("root", each.number) == each.number]
    assert len(roots) == trials + 1
    assert all(each.state != TrialState.WAITING for each in again.trials)
