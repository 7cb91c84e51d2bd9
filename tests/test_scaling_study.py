"""Scaling studies: a tiny grid end to end, what is done is not done again, and mistakes in one line."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from mlflow import MlflowClient

from experiments.config import Config, TrackingConfig, parse_config
from experiments.feeding import preparations
from experiments.scaling import command, findings
from experiments.scaling.answer import in_words
from experiments.scaling.cell import Bench, Cell, Cost, Done, begin_cell, cost
from experiments.scaling.command import run_scaling
from experiments.scaling.findings import conclude
from experiments.scaling.grid import plan_cells
from experiments.scaling.pictures import scaling_png
from experiments.statistics.scaling import Surface
from experiments.workspace import open_store
from fusion import UsageError


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "DRAWS", 40)


SIZES = [{"dim": 4, "layers": 1}, {"dim": 8, "layers": 1}, {"dim": 12, "layers": 1}]


def config_of(folder: Path, runs: Path, **scaling: Any) -> Config:
    data = {"folder": folder, "labels": "outcome", "preprocess": {"codes": {"max_tokens": 16}}}
    settings = {"sizes": SIZES, "shares": [0.3, 0.6, 1.0], "batch_size": 32, "least_steps": 0, **scaling}
    model = {"encoders": {"codes": "bag"}, "fusion": "sum", "dim": 8}
    several = {"name": "t", "runs": runs, "data": data, "model": model, "scaling": settings}
    return parse_config({**several, "tracking": {"enabled": False}})


def bench_of(config: Config) -> Bench:
    assert config.scaling is not None
    plans = preparations(config.scaling.architecture(0), config.data.preprocess)
    return Bench(config, config.scaling, open_store(config), plans)


def planted(surface: Surface, sizes: list[int], data: list[float], budget: float | None = None) -> list[Done]:
    return [
        Done(Cell(i, each / max(data), budget, 0), size, 10, 500, int(each), 6.0 * size * each, loss, 1, 1.0)
        for i, size in enumerate(sizes)
        for each in data
        for loss in surface.loss(np.array([float(size)]), np.array([each])).tolist()
    ]


def test_a_grid_is_trained_once_and_told_in_words(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(small_folder, tmp_path)
    lines = list(run_scaling(config, progress=False))
    assert lines[0].startswith("9 cells: ")
    folder = tmp_path / "t" / "scaling"
    rows = list(csv.DictReader((folder / "scaling.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 9
    assert {each["budget"] for each in rows} == {"none"}
    assert all(float(each["loss"]) > 0 for each in rows)
    found = json.loads((folder / "scaling.json").read_text(encoding="utf-8"))
    assert found["words"] == lines[:-1]
    assert (folder / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert not list((folder / "cells").glob("*.safetensors")), "checkpoints of finished cells are left"

    def never(*_: Any) -> Any:
        raise AssertionError("a cell that was done is done again")

    monkeypatch.setattr(command, "train_cell", never)
    assert list(run_scaling(config, progress=False)) == lines
    with pytest.raises(AssertionError, match="done again"):
        list(run_scaling(config_of(small_folder, tmp_path, lr=0.5), progress=False))


def test_cells_and_what_they_tell_are_tracked(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(bench: Bench, cell: Cell, price: Cost) -> tuple[Done, list[dict[str, float]]]:
        data = bench.data(bench.some(cell.share, cell.seed))
        loss = 1.0 + 20 * price.parameters**-0.5 + 30 * data**-0.5
        return Done(cell, price.parameters, 10, 500, data, data * price.flops, loss, 1, 0.1), [{"epoch": 1.0}]

    monkeypatch.setattr(command, "train_cell", train)
    config = config_of(small_folder, tmp_path).model_copy(update={"tracking": TrackingConfig()})
    list(run_scaling(config, progress=False))
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    logged = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert len(logged) == 9 + 1
    assert {each.data.tags["ehrfusion.kind"] for each in logged} == {"scaling"}
    (whole,) = (each for each in logged if each.info.run_name == "t/scaling")
    assert whole.data.metrics["irreducible"] == pytest.approx(1.0, abs=0.05)
    files = [each.path for each in client.list_artifacts(whole.info.run_id)]
    assert files == ["scaling.csv", "scaling.json", "scaling.png"]


def test_only_the_train_split_takes_part_and_shares_are_nested(small_folder: Path, tmp_path: Path) -> None:
    bench = bench_of(config_of(small_folder, tmp_path))
    learned, judging = bench.rows()
    train = set(bench.store.cohort.rows("train").tolist())
    assert set(learned.tolist()) | set(judging.tolist()) == train
    assert not set(learned.tolist()) & set(judging.tolist())
    few, many = (set(bench.some(share, 0).tolist()) for share in (0.3, 0.6))
    assert few < many < set(learned.tolist())
    run = begin_cell(bench, Cell(0, 0.3, None, 5))
    assert set(run.learned.tolist()) == set(bench.some(0.3, 5).tolist())
    assert run.tuning.tolist() == judging.tolist(), "cells are judged by other patients"


def test_a_budget_is_spent_by_the_share_it_pays_for(small_folder: Path, tmp_path: Path) -> None:
    bench = bench_of(config_of(small_folder, tmp_path, shares=[], flops=[3000.0]))
    learned, _ = bench.rows()
    data = bench.data(learned)
    costs = [Cost(100 * (i + 1), 3000.0 / data / share) for i, share in enumerate((0.5, 1.0, 0.25, 1.5))]
    cells = plan_cells(bench, costs)
    assert [(each.size, round(each.share, 6)) for each in cells] == [(0, 0.5), (1, 1.0), (2, 0.25)]


def test_operations_grow_with_size(small_folder: Path, tmp_path: Path) -> None:
    bench = bench_of(config_of(small_folder, tmp_path))
    small, large = cost(bench, 0), cost(bench, 2)
    assert small.parameters < large.parameters
    assert 0 < small.flops < large.flops
    assert 2 * large.parameters < large.flops < 9 * large.parameters, "about six operations a parameter and token"


def test_a_supervised_encoder_has_labels_as_data(small_folder: Path, tmp_path: Path) -> None:
    sizes = [{"dim": 4}, {"dim": 8}, {"dim": 12}]
    config = config_of(small_folder, tmp_path, sizes=sizes, encoder="bag", objective="task")
    config = config.model_copy(update={"data": config.data.model_copy(update={"preprocess": {}})})
    lines = list(run_scaling(config, progress=False))
    assert lines[0].endswith("labels seen")


def test_planted_laws_are_told(tmp_path: Path) -> None:
    law = Surface(2.0, 50.0, 500.0, 0.5, 0.5)
    done = planted(law, [1000, 4000, 16000, 64000], [1e5, 3e5, 1e6])
    found = conclude(done, 1e6, 0)
    lines = list(in_words(found, "tokens"))
    worth = 0.01 * 1e6  # (50 / 500)^2 * D
    assert f"about {worth:,.0f} parameters" in lines[-2]
    assert lines[-1].startswith("what limits: data")
    assert scaling_png(found, "tokens").startswith(b"\x89PNG")
    few = conclude(planted(law, [1000, 2000, 4000], [1e5, 3e5, 1e6]), 1e6, 0)
    lines = list(in_words(few, "tokens"))
    assert "more than the largest tried, 4,000 parameters; try larger sizes" in lines[-2]
    assert lines[-1].startswith("what limits: parameters")


def test_an_exponent_at_the_edge_is_not_believed() -> None:
    done = planted(Surface(2.0, 50.0, 5e22, 0.5, 4.5), [1000, 4000, 16000, 64000], [1e5, 3e5, 1e6])
    assert "the exponent of data lies at the edge" in list(in_words(conclude(done, 1e6, 0), "tokens"))[-1]


def test_cells_that_follow_no_law_tell_nothing() -> None:
    rng = np.random.default_rng(0)
    done = planted(Surface(2.0, 50.0, 500.0, 0.5, 0.5), [1000, 4000, 16000, 64000], [1e5, 3e5, 1e6])
    noisy = [Done(**{**vars(each), "loss": each.loss * float(np.exp(rng.normal(0, 0.1)))}) for each in done]
    assert "not told, as the surface misses the cells" in list(in_words(conclude(noisy, 1e6, 0), "tokens"))[-1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shares": [1.0]}, "too few cells: 3 sizes and 1 amounts of data that can be trained"),
        ({"shares": [0.01]}, r"scaling.shares: 0.01 of \d+ patients who are learned from is fewer than 10"),
        (
            {"shares": [], "flops": [1e15]},
            "no size can spend 1e.15: .*more scaling.epochs, data or larger",
        ),
        ({"shares": [], "flops": [10.0]}, "no size can spend 10: .* take at least .*smaller sizes"),
        ({"shares": []}, "needs shares of the data, budgets of flops, or both"),
        ({"sizes": [{"layers": 1}]}, "each of sizes has a dim"),
        ({"sizes": [{"dim": 4, "layer": 1}]}, "layers"),
        ({"encoder": "transformer"}, "needs modality codes and encoder timeline"),
    ],
)
def test_mistakes_are_told_in_a_line(settings: dict[str, Any], said: str, small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as error:
        list(run_scaling(config_of(small_folder, tmp_path, **settings), progress=False))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "t").exists(), "something was begun"


def test_empty_timelines_are_told(small_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_folder, tmp_path / "data"))
    shard = folder / "data" / "00000.parquet"
    events = pl.read_parquet(shard)
    later = events.filter(pl.col("time").is_not_null()).with_columns(pl.col("time") + pl.duration(days=36500))
    later.write_parquet(shard)
    with pytest.raises(UsageError, match=r"empty timelines: none of \d+ training patients has a codes token"):
        list(run_scaling(config_of(folder, tmp_path / "runs"), progress=False))


def test_no_surface_is_fitted_to_cells_of_few_steps() -> None:
    law = Surface(2.0, 50.0, 500.0, 0.5, 0.5)
    done = planted(law, [1000, 4000, 16000, 64000], [1e5, 3e5, 1e6])
    few = planted(law, [1000, 4000], [2e4])
    hasty = [replace(each, cell=replace(each.cell, share=0.02), steps=20, loss=each.loss * 3) for each in few]
    found = conclude([*done, *hasty], 1e6, 0, 200)
    assert found.surface is not None
    assert found.surface.irreducible == pytest.approx(2.0, abs=0.02)
    lines = list(in_words(found, "tokens", 200))
    assert lines[1].startswith("no surface is fitted to 2 cells of fewer than 200 steps")
    none = conclude(hasty, 1e6, 0, 200)
    assert none.no_surface.startswith("a surface needs 6 cells")
