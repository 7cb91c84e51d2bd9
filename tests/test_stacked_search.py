"""A search that trains trials together finds what each would come to alone, and each goes on alone when it must."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_search import preloaded, study  # noqa: F401 - a fixture
from toy_tracking import empty_runs  # noqa: F401 - a fixture

from experiments import stacked as stacked_module
from experiments.beginning import begun, prepare_study
from experiments.config import StudyConfig
from experiments.objective import StudyObjective, make_objective, trial_training
from experiments.searching import run_search, sync_study
from experiments.stackable import apart
from experiments.studies import load_study, study_shares, study_space, study_spec, worker_space
from experiments.tracking.runs import connect, find_runs
from experiments.train import train
from experiments.workspace import open_store
from fusion import UsageError
from search.pruning import root_of
from search.space import Candidate
from search.study import create_or_resume, issue_tickets, summary, worker_loop

SPACE = {
    "encoders": {"codes": {"bag": {"dropout": {"low": 0.0, "high": 0.5}}}, "notes": {"bag": {"dropout": 0.2}}},
    "fusion": ["late", "early", "sum"],
    "dim": [8, 16],
    "training": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}, "weight_decay": {"low": 0.0, "high": 0.1}},
}
TRAINING = {"epochs": 4, "batch_size": 32, "batch_order": 0, "patience": 9, "warmup_steps": 4}


def stacking(small_folder: Path, runs: Path, name: str, **parts: Any) -> StudyConfig:
    search = {"trials": 4, "stack": 4, "pruner": "none", **parts.pop("search", {})}
    return study(small_folder, runs, name, **{"space": SPACE, "training": TRAINING, "search": search, **parts})


def work(config: StudyConfig, objective: StudyObjective, stop: Any = lambda: "") -> list[FrozenTrial]:
    """Be the worker of a study."""
    spec = study_spec(config)
    if config.tracking.enabled:
        with begun(config, prepare_study(config)) as created:
            pass
    else:
        created = create_or_resume(spec, {})
        issue_tickets(created, config.search.trials or 0)
    worker_loop(created, spec, worker_space(config.model_dump(mode="json")), objective, "here", stop)
    return created.get_trials()


def same_as_alone(config: StudyConfig, trials: list[FrozenTrial]) -> None:
    """Each trial reported what training it alone reports, up to float error."""
    store = open_store(config)
    for each in trials:
        candidate = Candidate.from_dict(each.user_attrs)
        training, seed = trial_training(config.training, candidate), each.user_attrs["seed"]
        fit = train(
            candidate.architecture,
            store,
            training,
            seed,
            preprocess=config.data.preprocess,
            shares=study_shares(config),
        )
        history = each.user_attrs["history"]
        assert len(history) == len(fit.history)
        for mine, theirs in zip(history, fit.history, strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], abs=2e-5)
            assert mine["score"] == pytest.approx(theirs["score"], abs=2e-3)  # two patients may change places
            assert mine.get("share") == theirs.get("share")
        assert each.value == pytest.approx(fit.score, abs=2e-3)
        assert each.user_attrs["best_epoch"] == fit.best_epoch
        assert each.user_attrs["parameters"] == fit.parameters


def test_trials_together_are_trials_alone(small_folder: Path, tmp_path: Path) -> None:
    search = {"trials": 8, "pruner": "halving", "reduction": 10, "first_rung": 1, "fractions": [0.5]}
    config = stacking(small_folder, tmp_path, "together", search=search)
    config = config.model_copy(update={"search": config.search.model_copy(update={"limits": {"parameters": 1e6}})})
    trials = work(config, make_objective(config.model_dump(mode="json")))
    assert [each.user_attrs["together"] for each in trials] == [[0, 1, 2, 3]] * 4 + [[4, 5, 6, 7]] * 4
    whole = [each for each in trials if each.state == TrialState.COMPLETE]
    cut = [each for each in trials if each.state == TrialState.PRUNED]
    assert len(whole) + len(cut) == 8
    assert whole
    assert cut
    assert all(each.user_attrs["pruned_by"] == "halving" for each in cut)
    same_as_alone(config, whole)
    assert len({each.params["training.lr"] for each in trials}) == 8
    assert list((config.folder / "checkpoints").iterdir()) == []


def test_trials_stopped_together_go_on_alone_from_their_checkpoints(small_folder: Path, tmp_path: Path) -> None:
    config = stacking(small_folder, tmp_path, "stopped", search={"trials": 3, "stack": 3})
    objective, asks = make_objective(config.model_dump(mode="json")), [0]

    def stop() -> str:  # asked by each trial: before the first, at the start of an epoch, and before its four batches
        asks[0] += 1
        return "interrupt" if asks[0] > 50 else ""

    trials = work(config, objective, stop)
    assert [each.state for each in trials] == [TrialState.FAIL] * 3 + [TrialState.WAITING] * 3
    done = [len(each.user_attrs["history"]) for each in trials[:3]]
    assert done[0] == done[1] == done[2]
    assert 0 < done[0] < 4
    kept = {path.stem for path in (config.folder / "checkpoints").iterdir() if path.suffix == ".safetensors"}
    assert kept == {"0", "1", "2"}
    trials = work(config, objective)
    assert [each.state for each in trials[3:]] == [TrialState.COMPLETE] * 3
    assert all("together" not in each.user_attrs for each in trials[3:])
    assert sorted(root_of(each) for each in trials[3:]) == [0, 1, 2]
    for each in trials[3:]:
        assert each.user_attrs["history"][: done[0]] == trials[root_of(each)].user_attrs["history"]
    same_as_alone(config, trials[3:])


def test_what_ends_the_training_of_all_is_survived(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, epochs = stacked_module._Stack.epoch, [0]

    def epoch(stack: Any, asked: Any) -> Any:
        epochs[0] += 1
        if epochs[0] == 3:
            raise MemoryError
        return real(stack, asked)

    monkeypatch.setattr(stacked_module._Stack, "epoch", epoch)
    config = stacking(small_folder, tmp_path, "memory", search={"trials": 2, "stack": 2})
    trials = work(config, make_objective(config.model_dump(mode="json")))
    assert [each.user_attrs.get("failure") for each in trials] == ["trained together: out of memory"] * 2 + [None] * 2
    assert summary(trials) == {"complete": 2, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    same_as_alone(config, trials[2:])


def test_a_search_by_processes_stacks_what_it_can_and_says_what_it_cannot(
    small_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = {**SPACE, "fusion": ["late", "gated"]}
    config = stacking(
        small_folder,
        tmp_path,
        "mixed",
        space=space,
        search={"trials": 8, "stack": 2, "workers": 1, "sampler": "random"},
    )
    with caplog.at_level(logging.WARNING, "ehrfusion"):
        result = run_search(config, live=False)
    assert result.complete
    said = [each.message for each in caplog.records if "search.stack" in each.message]
    assert said == ["search.stack: trials are trained one at a time with fusion gated"]
    trials = load_study(config).get_trials()
    assert len(trials) == 8
    by_fusion = {name: [each for each in trials if each.params["fusion"] == name] for name in ("late", "gated")}
    assert all("together" not in each.user_attrs for each in by_fusion["gated"])
    assert sum("together" in each.user_attrs for each in by_fusion["late"]) >= 2
    assert by_fusion["gated"]


def test_trials_together_are_runs_apart(
    small_folder: Path,
    tmp_path: Path,
    empty_runs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4 trials in one step, 1 of which diverges: 4 MLflow runs, each with its own epochs, metrics and end."""
    close = stacked_module._close

    def diverging(run: Any, loss: float, *rest: Any) -> Any:
        lost = run is stacks[0].runs[1] and run.state.epoch == 1
        return close(run, float("nan") if lost else loss, *rest)

    stacks: list[Any] = []
    begin = stacked_module._Stack.__init__

    def remembered(stack: Any, *given: Any) -> None:
        begin(stack, *given)
        stacks.append(stack)

    monkeypatch.setattr(stacked_module._Stack, "__init__", remembered)
    monkeypatch.setattr(stacked_module, "_close", diverging)
    runs = Path(shutil.copytree(empty_runs, tmp_path / "runs"))
    tracking = {"uri": f"sqlite:///{runs}/mlflow.db"}
    config = stacking(small_folder, runs, "tracked", tracking=tracking)
    trials = work(config, make_objective(config.model_dump(mode="json")))
    assert [each.user_attrs["together"] for each in trials] == [[0, 1, 2, 3]] * 4
    assert [each.state.name for each in trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    for _ in range(2):
        assert sync_study(config).startswith("tracked: 4 trials are in sqlite:///")
    connection = connect(config.tracking.uri, runs)
    found = {int(run.data.tags["ehrfusion.trial"]): run for run in find_runs(connection, "ehrfusion.kind", "trial")}
    assert {number: run.info.status for number, run in found.items()} == {
        0: "FINISHED",
        1: "FAILED",
        2: "FINISHED",
        3: "FINISHED",
    }
    assert found[1].data.tags["failure"] == "the loss is nan in epoch 2"
    for each in trials:
        run = found[each.number]
        points = connection.client.get_metric_history(run.info.run_id, "epoch/score")
        assert [(point.step, point.value) for point in points] == [
            (entry["epoch"], entry["score"]) for entry in each.user_attrs["history"]
        ]
        assert float(run.data.params["training.lr"]) == each.params["training.lr"]
    assert len({run.data.params["training.lr"] for run in found.values()}) == 4


def test_what_is_trained_one_at_a_time_is_named(small_folder: Path, tmp_path: Path) -> None:
    config = stacking(small_folder, tmp_path, "named")
    assert apart(study_space(config), config.training) is None
    dropping = config.training.model_copy(update={"modality_dropout": 0.1})
    assert apart(study_space(config), dropping) == (
        "search.stack: trials are trained one at a time with training.modality_dropout"
    )


def test_mistakes_are_told(small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give training\.batch_order a seed, like 0"):
        stacking(small_folder, tmp_path, "unordered", training={"epochs": 1})
    with pytest.raises(UsageError, match="memory_mb of one is not known; write stack: 1"):
        stacking(small_folder, tmp_path, "memory", search={"limits": {"memory_mb": 100.0}})
