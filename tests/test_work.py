"""Equal work: epochs in the measure of what they cost, counted on small patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments import comparing
from experiments.comparing import compare_config
from experiments.config import Config, TrainingConfig, parse_config
from experiments.contenders import Contender
from experiments.costs import count_flops
from experiments.work import flops_of, with_equal_work
from experiments.workspace import open_store
from fusion import Architecture, Spec

PREPROCESS = {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}


@pytest.fixture
def config(small_folder: Path, tmp_path: Path) -> Config:
    return parse_config(
        {
            "name": "work",
            "runs": str(tmp_path / "runs"),
            "data": {"folder": str(small_folder), "preprocess": PREPROCESS},
            "training": {"epochs": 4, "patience": 2},
            "compare": {"seeds": 1, "folds": 1, "resamples": 100, "fusions": ["early", "cross_attention"]}
            | {"equal": "flops"},
            "tracking": {"enabled": False},
            "model": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": "early", "dim": 16},
        }
    )


def test_operations_by_hand() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)

        def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.second(self.first(inputs["x"]))

    assert count_flops(Two(), {"x": torch.ones(7, 3)}) == 2 * 7 * (3 * 5 + 5 * 2)  # type: ignore[arg-type]


def test_what_costs_more_has_fewer_epochs(config: Config) -> None:
    store = open_store(config)

    def architecture(fusion: str, dim: int = 16) -> Architecture:
        return Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec(fusion), dim)

    small, large = architecture("early"), architecture("early", 64)
    ratio = flops_of(large, store, PREPROCESS) / flops_of(small, store, PREPROCESS)
    assert ratio > 4
    strategies = {
        "same": Contender("fusion", small),
        "large": Contender("fusion", large),
        "trees": Contender("control", control="boosted_counts"),
    }
    training = TrainingConfig(epochs=40, patience=10)
    found, works = with_equal_work(strategies, small, training, store, PREPROCESS)
    assert found["same"].training == {"epochs": 40, "patience": 10}
    assert found["large"].training["epochs"] == works["large"].epochs == round(40 / ratio)
    assert found["trees"] == strategies["trees"]
    rare, _ = with_equal_work(strategies, small, TrainingConfig(epochs=1), store, PREPROCESS)
    assert rare["large"].training["epochs"] == 1, "at least one"


def test_a_comparison_at_equal_work_says_what_it_gave(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
        return [function(each) for each in settings]

    monkeypatch.setattr(comparing, "run_jobs", here)
    found, folder = compare_config(config, progress=False)
    work = found.about["work"]
    assert set(work) == {"early", "cross_attention", "codes", "notes"}
    assert work["early"]["epochs"] == 4
    assert work["cross_attention"]["epochs"] < 4
    assert "Equal work" in (folder / "comparison.html").read_text(encoding="utf-8")
