"""Compiling: refused without a GPU in one line; what is compiled computes the same and keeps its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_search import study

from experiments import compiling, stacked, train
from experiments.compiling import begin_step, check_compile, compile_parts
from experiments.config import TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.searching import run_search
from experiments.stackable import Member
from experiments.workspace import open_store
from fusion import Architecture, Spec, UsageError

PREPROCESS = {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}
TRAINING = TrainingConfig(epochs=1, batch_size=64, warmup_steps=1, batch_order=0)
PLAIN = {"dropout": 0.0}  # a compiled dropout draws other numbers
ARCHITECTURE = Architecture({"codes": Spec("bag", PLAIN), "notes": Spec("bag", PLAIN)}, Spec("early", PLAIN), 8)
NO_GPU = "training.compile: 'default' needs a GPU, and there is none here; write none"


@pytest.fixture
def store(small_folder: Path, tmp_path: Path) -> Store:
    data = {"folder": small_folder, "preprocess": PREPROCESS}
    model = {"encoders": {"codes": "bag"}}
    return open_store(parse_config({"name": "t", "runs": tmp_path, "data": data, "model": model}))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_without_a_gpu_it_is_refused_before_anything_is_trained(
    small_folder: Path, tmp_path: Path, store: Store, no_gpu: None
) -> None:
    training = TRAINING.model_copy(update={"compile": "default"})
    calls: list[Any] = [
        lambda: train.train(ARCHITECTURE, store, training, 1, preprocess=PREPROCESS),
        lambda: stacked.train_stacked([Member(ARCHITECTURE, training, 1)] * 2, store, preprocess=PREPROCESS),
        lambda: run_search(study(small_folder, tmp_path, "c", training={"compile": "default"}), live=False),
        lambda: compile_parts([torch.nn.Linear(2, 2)], "default", torch.device("cpu")),
    ]
    for call in calls:
        with pytest.raises(UsageError) as refused:
            call()
        assert str(refused.value) == NO_GPU
    assert not (tmp_path / "c").exists()
    check_compile("none", gpu=False)
    check_compile("reduce-overhead", gpu=True)
    begin_step("none")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo looks at tensors between two modules
def test_compiled_runs_come_to_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, by a backend that traces and generates no code."""
    plain = train.train(ARCHITECTURE, store, TRAINING, 1, preprocess=PREPROCESS)
    monkeypatch.setattr(compiling, "_OPTIONS", {"default": {"backend": "eager", "dynamic": True}})
    for module in (compiling, train, stacked):
        monkeypatch.setattr(module, "check_compile", lambda *_: None)
    training = TRAINING.model_copy(update={"compile": "default"})
    compiled = train.train(ARCHITECTURE, store, training, 1, preprocess=PREPROCESS)
    together = stacked.train_stacked(
        [Member(ARCHITECTURE, training, seed) for seed in (1, 2)], store, preprocess=PREPROCESS
    )
    for fit in (compiled, together[0]):
        assert isinstance(fit, train.Fit)
        wanted = plain.model.state_dict()
        assert list(fit.model.state_dict()) == list(wanted)
        for name, weight in fit.model.state_dict().items():
            torch.testing.assert_close(weight, wanted[name], atol=2e-5, rtol=1e-4)
    assert compiled.model.fusion._compiled_call_impl is not None
