"""What trials are judged by beside the metric: known answers for networks that do something simple."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.config import StudyConfig, parse_config
from experiments.costs import Judge, check_for_task, check_objectives, count_flops, higher_is_better
from experiments.data.store import Store
from experiments.device import pick_device
from experiments.metrics import METRICS, auroc
from experiments.objective import _check_limits
from experiments.searching import run_search
from experiments.studies import load_study, preparations_of, study_space
from experiments.subgroups import LEAST, Subgroups, subgroups
from experiments.workspace import open_store
from fusion import Task, UsageError
from fusion.layers import Attention
from search.trial import Pruned


class CountsCodes(nn.Module):
    """Ignores everything but how many codes a patient has."""

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        return inputs["codes"].codes.gt(0).sum(1, keepdim=True).float() / 10


def config(folder: Path, runs: Path, **search: Any) -> StudyConfig:
    found = parse_config(
        {
            "name": "costs",
            "runs": runs,
            "data": {"folder": folder, "preprocess": {"codes": {"max_events": 64}, "notes": {"max_tokens": 16}}},
            "training": {"epochs": 1},
            "space": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": "late", "dim": 8},
            "search": {"trials": 2, "pruner": "none", "sampler": "random", **search},
            "tracking": {"enabled": False},
        }
    )
    assert isinstance(found, StudyConfig)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("costs") / "runs"


@pytest.fixture(scope="module")
def opened(small_folder: Path, runs: Path) -> tuple[Store, dict[str, Any]]:
    settings = config(small_folder, runs)
    store, plans = open_store(settings), preparations_of(study_space(settings), settings)
    store.prepare(plans)
    return store, {plan.modality: store.source(plan) for plan in plans}


def judge(store: Store, *wanted: str, groups: Subgroups | None = None) -> Judge:
    return Judge(store, "auroc", wanted, groups or Subgroups({}), pick_device())


def test_what_a_network_does_not_look_at_it_does_not_miss(opened: tuple[Store, dict[str, Any]]) -> None:
    store, feeds = opened
    names = ("missing_modality", "without_codes", "without_notes", "without_images")
    found = judge(store, *names).after(CountsCodes(), feeds)  # type: ignore[arg-type]
    whole = judge(store, "without_images").after(CountsCodes(), feeds)["without_images"]  # type: ignore[arg-type]
    assert found == {
        "without_codes": 0.5,
        "without_notes": whole,
        "without_images": whole,
        "missing_modality": found["missing_modality"],
    }
    assert whole != 0.5
    assert found["missing_modality"] == min(0.5, whole)


def test_the_worst_group_is_the_lowest_of_a_metric_to_raise(opened: tuple[Store, dict[str, Any]]) -> None:
    store, feeds = opened
    rows = store.cohort.rows("tuning")
    first = np.arange(len(rows)) < len(rows) // 2
    groups = Subgroups({"first": first, "last": ~first})
    scores = judge(store)._scored(CountsCodes(), feeds)[:, 0]  # type: ignore[arg-type]
    target = store.cohort.targets[rows]
    each = [auroc(target[here], scores[here], np.ones(here.sum())) for here in (first, ~first)]
    assert each[0] != each[1]
    found = judge(store, "worst_subgroup", groups=groups).after(CountsCodes(), feeds)  # type: ignore[arg-type]
    assert found == {"worst_subgroup": min(each)}


def test_groups_too_small_are_left_out_and_counted(
    opened: tuple[Store, dict[str, Any]], small_folder: Path, runs: Path
) -> None:
    store, _ = opened
    plans = preparations_of(study_space(config(small_folder, runs)), config(small_folder, runs))
    rows = store.cohort.rows("tuning")
    whole = subgroups(store, rows, plans, ["GENDER//", "LAB//"])
    assert whole.left_out
    assert all(patients < LEAST or " outcome" in reason for patients, reason in whole.left_out.values())
    assert all(here.sum() >= LEAST for here in whole.members.values())
    assert subgroups(store, rows, plans, ["no such code"]).left_out == subgroups(store, rows, plans, []).left_out


def test_work_is_counted_by_hand() -> None:
    # 7 patients through 5 -> 3: a multiplication and an addition for each weight
    assert count_flops(nn.Linear(5, 3), torch.ones(7, 5)) == 2 * 7 * 5 * 3  # type: ignore[arg-type]


def test_flops_of_attention_are_counted_with_and_without_gradients() -> None:
    class Attends(nn.Module):
        attention = Attention(8, heads=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, torch.ones(2, 5, dtype=torch.bool))

    projections, products = 2 * (2 * 5) * 8 * 8 * 4, 2 * 2 * 2 * 5 * 5 * 8
    assert count_flops(Attends(), torch.ones(2, 5, 8)) == projections + products  # type: ignore[arg-type]
    with torch.no_grad():
        assert count_flops(Attends(), torch.ones(2, 5, 8)) == projections + products  # type: ignore[arg-type]


def test_parameters_that_are_not_trained_do_not_count_and_memory_is_at_least_theirs(
    opened: tuple[Store, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 1))
    model[0].requires_grad_(False)
    monkeypatch.setattr("experiments.costs.peak_memory_mb", lambda _: 0.0)
    found = judge(opened[0], "parameters", "memory_mb").before(model, {})  # type: ignore[arg-type]
    assert found == {"parameters": 11.0, "memory_mb": 11 * 16 / 2**20}


class Handle:
    """Remembers what is said of a trial."""

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        self.limits: dict[str, float] = {}

    def note(self, **attributes: Any) -> None:
        self.notes |= attributes

    def over(self, limits: Mapping[str, float]) -> None:
        self.limits |= limits


def test_memory_that_is_too_much_before_training_ends_a_trial_and_enough_of_it_is_measured_later() -> None:
    handle: Any = Handle()
    _check_limits(handle, {"memory_mb": 90.0, "parameters": 5.0}, {"memory_mb": 100.0, "parameters": 10.0})
    assert handle.limits == {"parameters": -0.5}, "Optuna takes the first word on a limit for the last"
    with pytest.raises(Pruned, match="over the limit of memory_mb"):
        _check_limits(handle, {"memory_mb": 150.0}, {"memory_mb": 100.0})
    assert handle.limits["memory_mb"] == 0.5
    assert handle.notes["pruned_by"] == "memory_mb 150, limit 100"


def test_a_search_with_a_memory_limit_nobody_keeps(small_folder: Path, runs: Path) -> None:
    settings = config(small_folder, runs, limits={"memory_mb": 1.0}).model_copy(update={"name": "tight"})
    assert run_search(settings, workers=1, live=False).best is None
    for trial in load_study(settings).get_trials():
        assert trial.user_attrs["pruned_by"].endswith(", limit 1")
        assert "history" not in trial.user_attrs


@pytest.mark.parametrize(
    ("objectives", "text"),
    [
        (["without_note"], "search.objectives: unknown objective 'without_note'; did you mean 'without_notes'?"),
        (["flops", "flops"], "search.objectives: 'flops' is there twice"),
    ],
)
def test_objectives_that_make_no_sense(objectives: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_objectives(objectives, {}, list(METRICS), ["codes", "notes"])
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("objectives", "text"),
    [
        (
            ["rmse"],
            "search.objectives: unknown objective for a binary task 'rmse'; known: auprc, auroc, brier, ece, log_loss",
        ),
        (["auroc"], "search.objectives: 'auroc' is the study's own metric, and its first objective already"),
    ],
)
def test_objectives_that_do_not_suit_the_task(objectives: list[str], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_for_task(objectives, "auroc", Task("binary"))
    assert str(raised.value) == text
    check_for_task(["brier", "flops", "worst_subgroup"], "auroc", Task("binary"))


def test_doing_without_a_modality_goes_the_way_of_the_metric() -> None:
    assert higher_is_better("without_notes", "auroc")
    assert not higher_is_better("without_notes", "brier")
