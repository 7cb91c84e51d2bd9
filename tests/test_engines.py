"""Engines by name: what a study asks for, what it is told where that cannot be, and what workers are sent."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.cli import main
from experiments.config import StudyConfig, parse_config
from experiments.engines import check_engine, worker_spec
from experiments.live import LiveView
from experiments.slots import slot_environment
from experiments.status import note_waiting
from experiments.worker import WorkerSpec


def study(runs: Path, **search: Any) -> StudyConfig:
    data = {
        "name": "toy",
        "runs": str(runs),
        "data": {"folder": "elsewhere", "task": "binary"},
        "training": {"devices": 2},
        "space": {"encoders": {"codes": "bag"}},
        "search": {"trials": 1, **search},
    }
    config = parse_config(data)
    assert isinstance(config, StudyConfig)
    return config


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--engine", "rya"], "argument --engine: invalid choice: 'rya'; did you mean 'ray'?"),
        (["search.engine=slurm"], "search.engine: Input should be 'local' or 'ray'; got 'slurm'"),
        (["search.gpus_per_worker=1.5"], "gpus_per_worker is a part of one GPU or a whole number of them; got 1.5"),
    ],
)
def test_an_engine_that_cannot_be_is_one_line(
    said: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["search", "demo", "--runs", str(tmp_path), *said])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    found = capsys.readouterr().err
    assert code == 2
    assert message in found
    assert found.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ray_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else known(name, *rest))
    assert main(["search", "demo", "--engine", "ray", "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "ehrfusion: engine 'ray' needs Ray: pip install 'ehrfusion[ray]'\n"
    assert not list(tmp_path.iterdir())
    check_engine(study(tmp_path))


def test_workers_are_told_where_things_are_and_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = worker_spec(study(Path("runs")), SimpleNamespace(user_attrs={}))  # type: ignore[arg-type]
    assert spec.settings["runs"] == str(tmp_path / "runs")
    assert spec.settings["data"]["folder"] == str(tmp_path / "elsewhere")
    assert spec.needs == (str(tmp_path / "elsewhere"), str(tmp_path / "runs" / "toy" / "study.yaml"))
    assert spec.devices == 2
    assert WorkerSpec(**json.loads(spec.to_json())).study["name"] == "toy"


def test_a_slot_has_as_many_gpus_as_a_trial() -> None:
    names = ["a", "b", "c", "d"]
    seen = [slot_environment(slot, names, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert seen == ["a,b", "c,d", "a,b"]
    assert slot_environment(0, ["a"], 2)["CUDA_VISIBLE_DEVICES"] == "a"


def test_what_hinders_workers_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    attributes: dict[str, Any] = {}
    told = SimpleNamespace(user_attrs=attributes, set_user_attr=attributes.__setitem__)
    view = LiveView("toy", "auroc", True, 2, None)
    for note in ("", "1 of 2 workers wait", "1 of 2 workers wait", ""):
        note_waiting(told, note)  # type: ignore[arg-type]
        view.update([], note)
    assert capsys.readouterr().err == "toy: 1 of 2 workers wait\n"
    assert attributes == {"waiting": ""}
