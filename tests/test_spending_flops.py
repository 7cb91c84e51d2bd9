"""Budgets in floating-point operations: counted by hand, exact for one worker, also when resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState, create_trial
from torch import nn
from toy_search import preloaded, study  # noqa: F401 - a fixture
from toy_trials import begin, run, spec  # noqa: F401 - a fixture

from experiments.costs import count_flops, training_flops
from experiments.data.store import Store
from experiments.live import LiveView
from experiments.searching import run_search
from experiments.status import study_status
from experiments.studies import load_study
from experiments.study_report import _budget
from experiments.work import flops_of
from experiments.workspace import open_store
from fusion import Architecture, UsageError
from search.spending import is_spent, savings, trained_flops
from search.study import StudySpec, open_study
from search.trial import Interrupted, TrialHandle


class Attends(nn.Module):
    def forward(self, x: Any) -> Any:
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize(
    ("layer", "shape", "flops"),
    [
        (nn.Linear(5, 3), (7, 5), 2 * 7 * 5 * 3),
        (Attends(), (2, 4, 6, 8), 2 * (2 * 2 * 4 * 6 * 6 * 8)),  # queries with keys, weights with values
        (nn.LSTM(8, 16, batch_first=True), (2, 5, 8), 2 * 2 * 5 * 4 * 16 * (8 + 16)),  # four gates
        (nn.GRU(8, 16, batch_first=True), (2, 5, 8), 2 * 2 * 5 * 3 * 16 * (8 + 16)),  # three gates
        (nn.Conv2d(3, 4, 3), (2, 3, 8, 8), 2 * 2 * 4 * 6 * 6 * 3 * 9),
    ],
)
def test_operations_by_hand(layer: nn.Module, shape: tuple[int, ...], flops: int) -> None:
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    assert count_flops(layer, torch.ones(shape, requires_grad=True)) == flops  # type: ignore[arg-type]
    assert (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled) == before


class Spender:
    """Trials of three epochs, each twice as dear as the one before, which know where they were."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}

    def __call__(self, _: Any, trial: TrialHandle) -> float:
        for epoch in range(1, 4):
            if epoch > self.kept.get(trial.root, 0):
                if trial.should_stop():
                    raise Interrupted("asked to stop")
                self.kept[trial.root] = epoch
            trial.report(epoch, 0.5, {"seconds": 1.0, "flops": 1e9 * 2**epoch})
        return 0.5


def test_a_budget_in_operations_is_exact_and_ends_cleanly(spec: StudySpec) -> None:
    spender, small = Spender(), replace(spec, trials=None, total_flops=17e9)
    begin(small)
    run(small, spender)
    trials = open_study(small).get_trials()
    assert [each.state for each in trials] == [TrialState.COMPLETE, TrialState.PRUNED]
    assert trained_flops(trials) == 14e9 + 2e9 + 4e9, "the epoch in which 17 are reached is the last"
    assert trials[-1].user_attrs["pruned_by"] == "budget"
    run(small, spender)
    assert len(open_study(small).get_trials()) == 2, "the same budget again is spent already"
    assert is_spent(trials, None, 20e9)
    assert not is_spent(trials, None, 20.1e9)


def test_savings_say_operations_where_every_epoch_knows_them() -> None:
    def trial(root: int, state: TrialState, *flops: float | None, **about: Any) -> Any:
        history = [{"seconds": 1.0} | ({"flops": each} if each is not None else {}) for each in flops]
        value = 0.5 if state == TrialState.COMPLETE else None
        return create_trial(state=state, value=value, user_attrs={"root": root, "history": history, **about})

    whole = trial(0, TrialState.COMPLETE, 1e9, 1e9)
    cut = trial(1, TrialState.PRUNED, 5e9, pruned_by="halving")
    assert str(savings([whole, cut])) == (
        "3 epochs (3 s, 7.00e+09 FLOPs) instead of about 4 epochs (4 s, 1.20e+10 FLOPs) without pruning: 42% saved"
    )
    unknown = savings([whole, trial(1, TrialState.PRUNED, None, pruned_by="halving")])
    assert (unknown.flops, unknown.unknown_flops) == (None, True)
    assert "FLOPs" not in str(unknown)
    assert not savings([]).unknown_flops


def test_the_view_of_a_budget_in_operations() -> None:
    view = LiveView("demo", "auroc", True, None, None, None, 4e9, enabled=False)
    trials = [create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={"history": [{"flops": 1e9}]})]
    view.update(trials)
    assert (view.total, view.reached(trials), view.reached_before) == (4e9, 1e9, 1e9)
    settings = {"flops": 4e9, "sampler": "tpe", "pruner": "none", "first_rung": 3, "reduction": 3}
    assert _budget(settings) == "4.00e+09 FLOPs, sampler tpe"


def test_a_search_by_operations(small_folder: Path, tmp_path: Path) -> None:
    config = study(small_folder, tmp_path, "flops", search={"trials": 1, "pruner": "none"})
    store: Store = open_store(config)
    part = {"pruner": "halving", "first_rung": 1, "fractions": [0.5]}
    config = study(small_folder, tmp_path, "flops", search={"flops": 1e8, "workers": 1, **part})
    result = run_search(config, live=False)
    assert result.ending == "budget"
    trials = load_study(config).get_trials()
    rows = len(store.cohort.rows("train"))
    for each in trials:
        forward = flops_of(Architecture.from_dict(each.user_attrs["architecture"]), store, config.data.preprocess)
        assert each.user_attrs["costs"]["flops"] == forward
        wanted = [3 * forward * rows * share for share in (0.5, 1.0)]
        history = each.user_attrs["history"]
        assert [entry["flops"] for entry in history] == pytest.approx(wanted[: len(history)])
    last = trials[-1].user_attrs["history"][-1]["flops"]
    assert 1e8 <= trained_flops(trials) < 1e8 + last + 1
    status = study_status(config)
    assert f"{trained_flops(trials):.2e} of 1.00e+08 FLOPs; trained " in status
    assert " FLOPs)" in result.render()
    assert run_search(config, live=False).ending == "budget"
    assert len(load_study(config).get_trials()) == len(trials)


def test_a_budget_in_operations_needs_trials_that_counted(small_folder: Path, tmp_path: Path) -> None:
    run_search(study(small_folder, tmp_path, "late", search={"trials": 1}), live=False)
    with pytest.raises(UsageError, match=r"has trained without counting operations, so search\.flops cannot"):
        run_search(study(small_folder, tmp_path, "late", search={"flops": 1e9}), live=False)
    with pytest.raises(UsageError, match="operations of a supernet are not counted"):
        study(small_folder, tmp_path, "net", search={"flops": 1e9, "supernet": {}})


def test_an_epoch_of_training_is_three_forward_passes() -> None:
    assert training_flops(10.0, 4) == 120.0
