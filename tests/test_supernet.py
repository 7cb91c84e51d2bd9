"""AutoFM's network of all architectures on small patients: what it finds starts the study, and it resumes exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from experiments.config import StudyConfig, parse_config
from experiments.search_config import SupernetConfig
from experiments.searching import run_search
from experiments.studies import finalists, load_study, study_space
from experiments.supernet import Found, SupernetSearch
from experiments.workspace import open_store
from fusion import UsageError
from fusion.autofm import VECTORS
from fusion.autofm.genes import canonical

GENES = {"codes_1": "ffn", "node1": ["sum", "mlp"]}


def study(small_folder: Path, runs: Path, fusion: Any = None, **supernet: Any) -> StudyConfig:
    """Bags of codes and notes, one epoch a trial, and a network of their architectures before."""
    data: dict[str, Any] = {
        "name": "small",
        "seed": 4,
        "runs": runs,
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 1, "batch_size": 32},
        "space": {
            "encoders": {"codes": {"bag": {"slots": 2}}, "notes": ["none", "bag"]},
            "fusion": fusion or {"autofm": {"genes": GENES, "dropout": 0.2}, "early": {}},
            "dim": [8, 16],
        },
        "search": {"trials": 3, "supernet": {"epochs": 2, **supernet}},
        "tracking": {"enabled": False},
    }
    found = parse_config(data)
    assert isinstance(found, StudyConfig)
    return found


def searched(config: StudyConfig, checkpoint: Path) -> tuple[SupernetSearch, Found]:
    search = SupernetSearch(config, config.search.supernet or SupernetConfig(), study_space(config), open_store(config))
    return search, search.run(checkpoint, progress=False)


@pytest.mark.parametrize(("method", "count"), [("bilevel", 1), ("single_path", 2)])
def test_what_it_finds_are_the_studys_first_trials(small_folder: Path, tmp_path: Path, method: str, count: int) -> None:
    config = study(small_folder, tmp_path / "runs", method=method, paths=6, top=2)
    result = run_search(config, workers=1, live=False)
    assert result.complete
    found = load_study(config)
    about = found.user_attrs["supernet"]
    assert len(about["architectures"]) == count
    trials = found.get_trials()
    assert len(trials) == 3, "they are part of the budget"
    assert [trial.user_attrs.get("origin") for trial in trials] == ["supernet"] * count + [None] * (3 - count)
    for trial, wanted in zip(trials, about["architectures"], strict=False):
        assert trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        got = trial.user_attrs["architecture"]
        assert got["fusion"]["genes"] == canonical(wanted["fusion"]["genes"], list(got["encoders"]), VECTORS)
        assert (got["fusion"]["dropout"], got["dim"]) == (0.2, 8)
        assert set(got["encoders"]) == {"codes", "notes"}
        assert got["fusion"]["genes"]["codes_1"] == "ffn", "what the user pinned stays"
        assert got["fusion"]["genes"]["node1"] in ("sum", "mlp")
    assert finalists(found), "and can be registered like any other"
    before = about["seconds"]
    run_search(config.model_copy(update={"search": config.search.model_copy(update={"trials": 4})}), 1, live=False)
    assert load_study(config).user_attrs["supernet"]["seconds"] == before, "it is trained once a study"


@pytest.mark.parametrize("order", [1, 2])
def test_bilevel_search_moves_decides_and_repeats(small_folder: Path, tmp_path: Path, order: int) -> None:
    config = study(small_folder, tmp_path / "runs", order=order)
    search, found = searched(config, tmp_path / "a.safetensors")
    assert found.entropy[0] == pytest.approx(1.0)
    assert found.entropy[-1] < found.entropy[0], "architecture parameters have moved"
    assert search.supernet.undecided() == []
    assert len(found.removals) == sum(len(names) - 1 for names in search.supernet.options.values()) - 5 - 1
    assert found.epochs == 2 + -(-len(found.removals) // 8)
    _, again = searched(config, tmp_path / "b.safetensors")
    assert (again.architectures, again.scores, again.entropy) == (found.architectures, found.scores, found.entropy)
    _, resumed = searched(config, tmp_path / "a.safetensors")  # from its checkpoint: deciding starts again
    assert (resumed.architectures, resumed.scores) == (found.architectures, found.scores)


def test_training_goes_on_where_it_was(small_folder: Path, tmp_path: Path) -> None:
    _, whole = searched(study(small_folder, tmp_path / "runs"), tmp_path / "whole.safetensors")
    half = study(small_folder, tmp_path / "runs")
    search = SupernetSearch(half, SupernetConfig(epochs=2), study_space(half), open_store(half))
    search.loop.companion = search.companion
    search.loop.training = search.loop.training.model_copy(update={"epochs": 1})
    search.loop.loop(None, None, tmp_path / "half.safetensors")
    _, resumed = searched(half, tmp_path / "half.safetensors")
    assert (resumed.architectures, resumed.scores) == (whole.architectures, whole.scores)
    assert resumed.entropy[-1] == pytest.approx(whole.entropy[-1])


def test_a_space_without_autofm_is_refused(small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^search.supernet needs 'autofm' among space.fusion$"):
        run_search(study(small_folder, tmp_path / "runs", fusion=["early", "late"]), 1, live=False)
