"""Full memory: batches in parts with the gradients of the whole, trials that fail with the reason, living workers."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from optuna.trial import TrialState
from toy_search import study
from toy_training import PREPROCESS, folder, numbers, run, store  # noqa: F401 - fixtures

from experiments.config import TrainingConfig
from experiments.data.store import Store
from experiments.device import seed_everything
from experiments.feeding import build_model, preparations, sources
from experiments.loop import Run
from experiments.memory import within_memory
from experiments.objective import make_objective
from experiments.studies import study_spec, worker_space
from fusion import FUSIONS, Architecture, Spec
from fusion.component import Int
from fusion.early import EarlyFusion
from search.failures import is_out_of_memory
from search.study import create_or_resume, worker_loop

CPU = torch.device("cpu")


class Greedy(torch.nn.Module):
    """Early fusion that runs out of memory when it learns from more than `most` patients, or predicts `eval_most`."""

    def __init__(
        self, modalities: Any, dim: int, *, most: Annotated[int, Int(0, 64)] = 8, eval_most: int = 10**6
    ) -> None:
        super().__init__()
        self.inner, self.most, self.eval_most = EarlyFusion(modalities, dim, dropout=0.0), most, eval_most

    def forward(self, tokens: Mapping[str, Any]) -> Any:
        count = len(next(iter(tokens.values())).values)
        if count > (self.most if self.training else self.eval_most):
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {count} GiB")
        return self.inner(tokens)


@pytest.fixture(autouse=True)
def greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FUSIONS, "greedy", Greedy)  # type: ignore[arg-type]


def architecture(**params: int) -> Architecture:
    encoders = {"codes": Spec("bag", {"dropout": 0.0}), "notes": Spec("bag", {"dropout": 0.0})}
    return Architecture(encoders, Spec("greedy", {"most": 64, **params}), 8)


def real_refusal() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


def test_what_says_that_memory_is_full() -> None:
    full = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), real_refusal()]
    full += [RuntimeError(f"CUDA error: {words}") for words in ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")]
    assert all(map(is_out_of_memory, full))
    others = [RuntimeError("shapes do not match"), ValueError("out of memory"), OSError(28, "No space left on device")]
    assert not any(map(is_out_of_memory, others))


def test_halved_until_it_fits_and_what_failed_is_gone_before_the_next_try() -> None:
    tried: list[int] = []
    left: list[weakref.ref[torch.Tensor]] = []

    def attempt(at_once: int) -> str:
        assert not any(each() is not None for each in left), "the last try's tensors still take up memory"
        tensor = torch.zeros(at_once)
        left.append(weakref.ref(tensor))
        tried.append(at_once)
        if at_once > 6:
            raise real_refusal()
        return "fits"

    assert within_memory(attempt, 50, CPU) == ("fits", 4)
    assert tried == [50, 25, 13, 7, 4]


def test_one_patient_that_is_too_many_and_other_errors_are_raised() -> None:
    tried: list[int] = []

    def attempt(at_once: int) -> None:
        tried.append(at_once)
        raise MemoryError

    with pytest.raises(MemoryError):
        within_memory(attempt, 3, CPU)
    assert tried == [3, 2, 1]

    def mistake(at_once: int) -> None:
        tried.append(at_once)
        raise ValueError("another mistake")

    with pytest.raises(ValueError, match="another mistake"):
        within_memory(mistake, 64, CPU)
    assert tried == [3, 2, 1, 64]


@pytest.mark.parametrize("at_once", [31, 16, 7, 1])
def test_parts_give_the_gradients_of_the_whole(store: Store, at_once: int) -> None:
    """A batch of 32, of whom some lack the note, in parts of unequal size."""
    training = TrainingConfig(batch_size=32)
    seed_everything(1, deterministic=True)
    plans = preparations(architecture(), PREPROCESS)
    store.prepare(list(plans.values()))
    model = build_model(architecture(), {name: store.preprocessor(plan) for name, plan in plans.items()}, 1)
    one = Run(model, store, training, 1, sources(model, plans, store, ("train",), CPU), CPU)
    batch = next(one.batches(one.learned))
    assert len(batch.rows) == 32
    whole = one.learn(batch, 32)
    wanted = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    parts = one.learn(batch, at_once)
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    assert wanted.keys() == found.keys()
    largest = max(float(each.abs().max()) for each in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * largest)
    torch.testing.assert_close(parts.losses["task"], whole.losses["task"])


@pytest.mark.parametrize("most", [20, 3])
def test_a_run_in_parts_learns_what_a_whole_one_does(store: Store, most: int) -> None:
    whole, parts = run(store, architecture()), run(store, architecture(most=most))
    assert (whole.patients_at_once, parts.patients_at_once) == (32, {20: 16, 3: 2}[most])
    for before, after in zip(numbers(whole), numbers(parts), strict=True):
        assert after["train_loss"] == pytest.approx(before["train_loss"], rel=1e-4)


@pytest.mark.parametrize("settings", [{"balance": "ogm_ge"}, {"unimodal_loss": 0.5}, {"alignment": 0.5}])
def test_strategies_go_on_in_parts(store: Store, settings: dict[str, Any]) -> None:
    found = run(store, architecture(most=5), epochs=1, **settings)
    assert found.patients_at_once == 4
    assert all(np.isfinite(list(numbers(found)[0].values())))


def test_predictions_need_not_fit_at_once_either(store: Store) -> None:
    whole, parts = run(store, architecture(), epochs=1), run(store, architecture(eval_most=3), epochs=1)
    assert numbers(parts)[0] == pytest.approx(numbers(whole)[0], rel=1e-6)
    assert not parts.model.training


def test_memory_that_is_full_fails_the_trial_and_not_the_worker(small_folder: Path, tmp_path: Path) -> None:
    """Two of four trials cannot learn from even one patient; one can from a few; the worker runs all four."""
    space = {"encoders": {"codes": "bag"}, "fusion": {"greedy": {"most": [0, 5, 64]}}, "dim": [8, 16]}
    config = study(small_folder, tmp_path, "full", space=space, search={"trials": 4, "pruner": "none"})
    settings, spec = config.model_dump(mode="json"), study_spec(config)
    created = create_or_resume(spec, {})
    for most, dim in ((0, 8), (64, 8), (0, 16), (5, 8)):
        created.enqueue_trial({"fusion.greedy.most": most, "dim": dim})
    worker_loop(created, spec, worker_space(settings), make_objective(settings), "here", lambda: "")
    trials = created.get_trials()
    assert [trial.state for trial in trials] == [
        TrialState.FAIL,
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    for failed in (trials[0], trials[2]):
        assert failed.user_attrs["failure"] == "out of memory"
        assert failed.user_attrs["peak_memory_mb"] > 50
    assert [trials[place].user_attrs["patients_at_once"] for place in (1, 3)] == [32, 4]
    assert list((config.folder / "checkpoints").iterdir()) == []
