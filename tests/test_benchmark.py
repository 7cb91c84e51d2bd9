"""The table of strategies and recipes: sorted, honest where there is nothing to find, drawn; and one small real run."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from experiments import benchmark, comparing
from experiments.benchmark import Benchmark, recipe_config, run_benchmark
from experiments.comparison import Comparison, Row
from experiments.sources.synthetic.recipes import RECIPES
from fusion import UsageError


def row(strategy: str, value: float, kind: str = "fusion", seeds: int = 3) -> Row:
    return Row(strategy, kind, "auroc", value, value - 0.1, value + 0.1, 0.004, (value,) * seeds)


def made(**recipes: dict[str, float]) -> Benchmark:
    comparisons = {
        recipe: Comparison("auroc", True, [row(name, value) for name, value in scores.items()], [])
        for recipe, scores in recipes.items()
    }
    best = {recipe: 0.5 if recipe == "noise" else 0.9 for recipe in recipes}
    return Benchmark(comparisons, best, Path())


def test_the_best_on_average_comes_first_and_luck_on_noise_does_not_count() -> None:
    found = made(unique={"late": 0.8, "early": 0.7}, noise={"late": 0.4, "early": 0.7})
    assert [label for label, _, _ in found.rows()] == ["late", "early"]
    lines = found.markdown().splitlines()
    assert lines[0] == "|  | unique | noise |"
    assert lines[2] == "| best possible | 0.900 | 0.500 |"
    assert lines[3] == "| late | **0.800** ± 0.004 | 0.400 ± 0.004 |"
    assert lines[4] == "| early | 0.700 ± 0.004 | 0.700 ± 0.004 |"


def test_what_failed_everywhere_on_a_recipe_leaves_a_gap() -> None:
    found = made(unique={"late": 0.8, "early": 0.7}, synergy={"early": 0.8})
    assert "| late | **0.800** ± 0.004 | - |" in found.markdown()
    assert benchmark._picture(found).startswith(b"\x89PNG")


def test_single_modalities_and_controls_come_after_the_fusions() -> None:
    rows = [row("codes", 0.9, "modality"), row("late", 0.6), row("boosted_counts", 0.95, "control")]
    found = Benchmark({"unique": Comparison("auroc", True, rows, [])}, {"unique": 0.97}, Path())
    assert [kind for _, kind, _ in found.rows()] == ["fusion", "modality", "control"]


def test_csv_has_a_line_for_every_strategy_and_recipe() -> None:
    found = made(unique={"late": 0.8, "early": 0.7}, noise={"late": 0.4, "early": 0.7})
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert len(lines) == 4
    assert lines[0] == {
        **{"recipe": "unique", "strategy": "late", "kind": "fusion", "auroc": "0.8000", "low": "0.7000"},
        **{"high": "0.9000", "seed_sd": "0.0040", "seeds": "3", "best_possible": "0.9000"},
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_has_an_experiment(recipe: str, tmp_path: Path) -> None:
    config = recipe_config(recipe, tmp_path, patients=300, fusions=["late"])
    assert config.data.synthetic is not None
    assert config.data.synthetic.recipe == recipe
    assert config.data.synthetic.patients == (900 if recipe == "synergy" else 300)
    assert config.training.patience == (config.training.epochs if recipe == "synergy" else 5)
    assert config.compare.fusions == ["late"]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'synergi'; did you mean 'synergy'\?"):
        run_benchmark(tmp_path, recipes=["synergi"])
    with pytest.raises(UsageError, match="--strategies names fusions"):
        run_benchmark(tmp_path, by="training", fusions=["late"])
    with pytest.raises(UsageError, match=r"compare.fusions: unknown component 'lat'; did you mean 'late'\?"):
        run_benchmark(tmp_path, recipes=["noise"], fusions=["lat"], patients=60)


def test_a_small_benchmark_writes_table_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
        return [function(each) for each in settings]

    monkeypatch.setattr(comparing, "run_jobs", here)
    short = {**benchmark._SETTINGS, "training": {"epochs": 1}}
    monkeypatch.setattr(benchmark, "_SETTINGS", short)
    found = run_benchmark(
        tmp_path, recipes=["unique", "noise"], fusions=["late"], patients=150, seeds=1, progress=False
    )
    assert (found.folder / "table.md").read_text(encoding="utf-8") == found.markdown()
    with Pillow.open(found.folder / "table.png") as picture:
        assert picture.width > 300
    assert {row["strategy"] for row in csv.DictReader(io.StringIO(found.to_csv()))} == {
        *("late", "early", "codes", "notes", "images", "graph", "boosted_counts"),
        *(f"without {modality}" for modality in ("codes", "notes", "images", "graph")),
    }
