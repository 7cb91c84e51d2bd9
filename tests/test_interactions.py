"""Interactions held down: the controller by hand, its gradients, what it refuses, and that it resumes exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_training import ARCHITECTURE, folder, numbers, open_labels, run  # noqa: F401 - a fixture

from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.kept import result_path
from experiments.loop import Stopped
from experiments.stackable import Member, check_stackable
from experiments.strategies import make_strategies
from experiments.strategies.interactions import InteractionControl
from experiments.studies import study_attributes, study_space
from experiments.tasks.interactions import interaction_rate
from fusion import FUSIONS, Architecture, Criterion, EarlyFusion, FusionModel, Spec, Task, UsageError

PAIR = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)  # the first two of three drugs interact
CONTROL = {"interaction_target": 0.05, "interaction_gain": 0.5}


def logits(*rows: str) -> torch.Tensor:
    """Answers that are sure of the drugs marked by x."""
    return torch.tensor([[4.0 if each == "x" else -4.0 for each in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "rate", "weight"),
    [
        (["xx.", "x.x", ".xx", ".xx"], 0.25, 0.8),  # one of four pairs; 1 - (0.25 - 0.2) / 0.25
        (["x.x", ".xx"], 0.0, 1.0),
        (["x..", "..."], 0.0, 1.0),  # no pair at all
        (["xxx"], 1 / 3, 1 - (1 / 3 - 0.2) / 0.25),
        (["xx.", "xx."], 1.0, 0.0),  # 1 - 0.8 / 0.25 is below 0: the truth counts nothing, never less
    ],
)
def test_the_weight_of_the_truth_by_hand(rows: list[str], rate: float, weight: float) -> None:
    found = InteractionControl(PAIR, target=0.2, gain=0.25, weight=1.0)(logits(*rows))
    assert float(found.rate) == pytest.approx(rate, abs=1e-6)
    assert float(found.own) == pytest.approx(weight, abs=1e-6)


def test_the_loss_is_the_mean_probability_of_an_interacting_pair() -> None:
    control = InteractionControl(PAIR | PAIR[::-1, ::-1], target=0.0, gain=0.1, weight=3.0)  # 1-2 and 2-3
    probability = torch.tensor([[0.5, 0.2, 0.4], [1.0, 0.5, 0.0]])
    found = control(probability.logit(eps=1e-7))
    assert float(found.unsafe) == pytest.approx(3 * ((0.1 + 0.08) + (0.5 + 0.0)) / 2 / 2, abs=1e-5)


def test_a_gross_excess_pushes_both_drugs_down_whatever_the_truth() -> None:
    model = FusionModel({}, EarlyFusion(["a"], 4), 4, 3)
    training = TrainingConfig(interaction_target=0.1)
    strategies = make_strategies(model, Criterion(Task("multilabel", ("a", "b", "c"))), training, PAIR)
    answers = logits("xx.").requires_grad_()
    model.predict = lambda _: answers  # type: ignore[method-assign]
    model.encode = lambda _: {}  # type: ignore[method-assign]
    model.fusion.forward = lambda _: type("Fused", (), {"losses": lambda _judge: {}})  # type: ignore[method-assign]
    step = strategies(model, {}, torch.tensor([[1.0, 1.0, 1.0]]))
    assert {name: float(each.detach()) > 0 for name, each in step.losses.items()} == {
        "task": False,
        "interactions": True,
    }
    torch.stack(list(step.losses.values())).sum().backward()
    assert answers.grad is not None
    first, second, third = answers.grad[0].tolist()
    assert first > 0, "descent lowers what has a positive gradient"
    assert second > 0
    assert third == 0, "where the rate is far above the target, the truth has no say"


def test_at_or_below_the_target_nothing_changes() -> None:
    found = InteractionControl(PAIR, target=1.0, gain=0.1, weight=1.0)(logits("xx."))
    assert float(found.own) == 1.0


def test_less_interaction_beyond_what_is_tolerated_comes_before_the_score() -> None:
    control = InteractionControl(PAIR, target=0.06, gain=0.01, weight=1.0)
    rates = [{"interaction_rate": each} for each in (0.0, 0.065, 0.07, 0.08)]
    assert [control.order(each, rates[2]) for each in rates] == [1, 1, 0, -1]
    assert control.order(rates[0], rates[1]) == 0, "what is tolerated is not traded for more"


def test_the_rate_is_over_the_pairs_of_all_rows() -> None:
    assert interaction_rate(np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]]), PAIR) == pytest.approx(1 / 4)
    assert interaction_rate(np.zeros((2, 3)), PAIR) is None


# --- in a run ---


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    """Two findings that interact whenever both are there."""
    (folder / "tasks" / "findings").mkdir(parents=True)
    (folder / "tasks" / "findings" / "interactions.csv").write_text("first,second\nfirst,second\n", encoding="utf-8")
    return open_labels(folder, "findings")


def test_a_controlled_run_differs_interacts_less_and_resumes_bit_for_bit(store: Store, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**CONTROL, "interaction_gain": 0.02, "unimodal_loss": 0.3, "epochs": 10, "lr": 3e-2}
    whole, free = run(store, **settings), run(store, epochs=1)
    rate = [epoch["interaction_rate"] for epoch in whole.history]
    assert rate[whole.best_epoch - 1] <= 0.07
    assert "interaction_rate" not in free.history[-1]
    assert numbers(whole) != numbers(free)
    assert max(epoch["loss_interactions"] for epoch in whole.history) > 0
    asked = 0

    def once() -> bool:
        nonlocal asked
        asked += 1
        return asked == 9  # in the third epoch

    path = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        run(store, **settings, checkpoint=path, should_stop=once)
    resumed = run(store, **settings, checkpoint=path)
    assert numbers(resumed) == numbers(whole)
    assert all(torch.equal(each, whole.model.state_dict()[name]) for name, each in resumed.model.state_dict().items())


def test_other_interactions_are_another_result_and_another_study(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "data"))
    store = open_labels(copy, "findings")
    path = copy / "tasks" / "findings" / "interactions.csv"
    path.parent.mkdir(parents=True, exist_ok=True)

    def looks(pairs: str, **training: Any) -> tuple[Path, str]:
        path.write_text(f"first,second\n{pairs}", encoding="utf-8")
        data = {"folder": copy, "labels": "findings"}
        more = {"training": training, "space": {"encoders": {"codes": ["bag"]}}, "search": {"trials": 1}}
        config = parse_config({"name": "t", "runs": tmp_path, "data": data, **more})
        assert isinstance(config, StudyConfig)
        settings: str = study_attributes(config, study_space(config), store, "auroc")["settings"]
        return result_path(tmp_path, {"training": training}, 0, config, store), settings

    one, same, other = (looks(pairs, **CONTROL) for pairs in ("first,second\n", "first,second\n", ""))
    assert one == same
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert looks("first,second\n") == looks(""), "a run without a target does not read them"


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
def test_every_fusion_can_be_controlled_with_modalities_missing(store: Store, fusion: str) -> None:
    fit = run(store, Architecture(ARCHITECTURE.encoders, Spec(fusion), 8), epochs=1, **CONTROL)
    assert np.isfinite(fit.history[0]["train_loss"])


def test_a_binary_label_is_refused_in_a_line(store: Store, folder: Path) -> None:
    with pytest.raises(UsageError) as raised:
        run(open_labels(folder, "outcome"), **CONTROL)
    assert str(raised.value) == (
        "training.interaction_target is about sets of drugs, a multilabel task; got a binary task"
    )


def test_labels_of_which_no_interactions_are_known_are_refused_in_a_line() -> None:
    model = FusionModel({}, EarlyFusion(["a"], 4), 4, 3)
    with pytest.raises(UsageError, match="needs to know which labels interact, and this label has no interactions"):
        make_strategies(model, Criterion(Task("multilabel", ("a", "b"))), TrainingConfig(interaction_target=0.1))


def test_runs_trained_together_have_no_controller() -> None:
    training = TrainingConfig(batch_order=0, interaction_target=0.06)
    with pytest.raises(UsageError, match=r"must have training\.interaction_target None; got 0\.06"):
        check_stackable([Member(ARCHITECTURE, training, 0)])
