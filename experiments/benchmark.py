"""Every strategy on every synthetic recipe: which mechanism helps where, when we know what there is to find."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparing import compare_config
from experiments.comparison import KINDS, Comparison, Row
from experiments.config import ExperimentConfig, parse_config
from experiments.plots import table_png
from experiments.sources.synthetic.recipes import RECIPES
from experiments.whole import whole_file
from fusion import UsageError
from fusion.component import unknown

BEST = "best possible"
_TELLING = 0.55  # where the best possible score is lower there is nothing to find, and the first is only lucky
_SETTINGS: Mapping[str, Any] = {
    "training": {"epochs": 16, "patience": 5, "lr": 3e-3, "warmup_steps": 20},
    "model": {
        "encoders": {
            "codes": "bag",
            "notes": "bag",
            "images": {"name": "conv", "width": 8, "grid": 1},
            "graph": "ancestors",
        },
        "fusion": "early",
        "dim": 32,
    },
}
_OTHERWISE: Mapping[str, Any] = {
    # an exclusive or gives no gradient to start from: it shows nothing for epochs, then everything
    "synergy": {"training": {"epochs": 25, "patience": 25, "lr": 2e-3}, "patients": 3},
}
"""What a recipe needs otherwise, the same for every strategy: training settings, and times as many patients."""
_PREPROCESS = {
    "codes": {"max_events": 96},
    "notes": {"max_tokens": 96},
    "images": {"size": 32, "max_images": 1},
    "graph": {"max_codes": 48},
}


@dataclass(frozen=True)
class Benchmark:
    """The comparisons of a benchmark by recipe, and the best score that each recipe allows."""

    comparisons: Mapping[str, Comparison]
    best: Mapping[str, float]
    folder: Path

    def rows(self) -> list[tuple[str, str, list[Row | None]]]:
        """Return (label, kind, row of each recipe) of every strategy, the best on average first within its kind.

        The average is over recipes that have something to find.
        """
        found: dict[str, dict[str, Row]] = {}
        for recipe, comparison in self.comparisons.items():
            for row in comparison.ranking():
                found.setdefault(row.strategy, {})[recipe] = row
        listed = []
        for rows in found.values():
            first = next(iter(rows.values()))
            listed.append((first.label, first.kind, [rows.get(recipe) for recipe in self.comparisons]))
        telling = [i for i, recipe in enumerate(self.comparisons) if self.best[recipe] > _TELLING]
        return sorted(listed, key=lambda each: (KINDS.index(each[1]), -_mean([each[2][i] for i in telling])))

    def markdown(self) -> str:
        """Return the table as Markdown: mean over seeds and, behind, the spread over seeds."""
        heads = ["", *self.comparisons]
        lines = [" | ".join(heads), " | ".join(["---"] + ["---:"] * len(self.comparisons))]
        lines.append(" | ".join([BEST, *(f"{self.best[recipe]:.3f}" for recipe in self.comparisons)]))
        tops = {
            recipe: comparison.ranking()[0].value if self.best[recipe] > _TELLING else np.inf
            for recipe, comparison in self.comparisons.items()
        }
        for label, _, rows in self.rows():
            cells = [_cell(row, tops[recipe]) for recipe, row in zip(self.comparisons, rows, strict=True)]
            lines.append(" | ".join([label, *cells]))
        return "\n".join(f"| {line} |" for line in lines) + "\n"

    def to_csv(self) -> str:
        """Return one line a strategy and recipe, with the interval over patients and the difference from the best."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["recipe", "strategy", "kind", "auroc", "low", "high", "seed_sd", "seeds", "best_possible"])
        for recipe, comparison in self.comparisons.items():
            for row in comparison.ranking():
                numbers = [f"{value:.4f}" for value in (row.value, row.low, row.high, row.seed_sd)]
                writer.writerow([recipe, row.strategy, row.kind, *numbers, len(row.seeds), f"{self.best[recipe]:.4f}"])
        return text.getvalue()

    def render(self) -> Any:
        """Return a rich table, with what failed below."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("", *self.comparisons, title="held-out AUROC, mean over seeds ± spread over seeds")
        table.add_row(BEST, *(f"{value:.3f}" for value in self.best.values()), end_section=True)
        for label, _, rows in self.rows():
            table.add_row(label, *(_cell(row) for row in rows))
        warnings = [
            Text(f"{recipe}: {warning}")
            for recipe, comparison in self.comparisons.items()
            for warning in comparison.about.get("warnings", ())
        ]
        return Group(table, *warnings)


def run_benchmark(
    runs: Path,
    *,
    by: str = "fusion",
    recipes: Sequence[str] | None = None,
    fusions: Sequence[str] | None = None,
    patients: int = 1200,
    seeds: int = 3,
    workers: int | None = None,
    progress: bool = True,
) -> Benchmark:
    """Compare strategies on synthetic patients of each recipe, with the same encoders, budget and seeds.

    Runs that were done before are not done again, so an interrupted benchmark goes on where it was.

    Raises:
        UsageError: unknown recipe or fusion.
    """
    usual = [name for name, recipe in RECIPES.items() if name != "mixed" and not recipe.drugs]
    chosen = list(recipes) if recipes is not None else usual
    for name in chosen:
        if name not in RECIPES:
            raise unknown("recipe", name, RECIPES)
    if by == "training" and fusions is not None:
        raise UsageError("--strategies names fusions; a benchmark by training has all its strategies")
    folder = runs / "benchmark"
    comparisons, best = {}, {}
    for recipe in chosen:
        config = recipe_config(recipe, folder, patients=patients, fusions=fusions)
        comparisons[recipe], _ = compare_config(config, by=by, seeds=seeds, workers=workers, progress=progress)
        truth = json.loads((config.data.folder / "truth.json").read_text(encoding="utf-8"))
        best[recipe] = float(truth["bayes_auroc"]["held_out"])
    out = folder / by
    out.mkdir(parents=True, exist_ok=True)
    found = Benchmark(comparisons, best, out)
    for name, content in (("table.md", found.markdown()), ("table.csv", found.to_csv())):
        with whole_file(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    with whole_file(out / "table.png") as temporary:
        temporary.write_bytes(_picture(found))
    return found


def recipe_config(
    recipe: str, folder: Path, *, patients: int = 1200, fusions: Sequence[str] | None = None
) -> ExperimentConfig:
    """Return the experiment that a recipe is benchmarked with; `synergy` has more patients and epochs."""
    otherwise = _OTHERWISE.get(recipe, {})
    patients *= otherwise.get("patients", 1)
    data = {
        "folder": str(folder / "data" / f"{recipe}-{patients}"),
        "synthetic": {"patients": patients, "recipe": recipe},
        "preprocess": _PREPROCESS,
    }
    compare = {"folds": 1} | ({"fusions": list(fusions)} if fusions is not None else {})
    config = parse_config(
        {"name": recipe, "runs": str(folder), "data": data, "compare": compare}
        | {"tracking": {"enabled": False}, **_SETTINGS}
        | {"training": {**_SETTINGS["training"], **otherwise.get("training", {})}}
    )
    assert isinstance(config, ExperimentConfig)
    return config


def _picture(found: Benchmark) -> bytes:
    rows = found.rows()
    values = np.array([[row.value if row is not None else np.nan for row in each] for _, _, each in rows])
    best = np.array([found.best[recipe] for recipe in found.comparisons])
    return table_png([label for label, _, _ in rows], list(found.comparisons), values, best)


def _mean(rows: Sequence[Row | None]) -> float:
    values = [row.value for row in rows if row is not None]
    return float(np.mean(values)) if values else 0.0


def _cell(row: Row | None, top: float | None = None) -> str:
    if row is None or not np.isfinite(row.value):
        return "-"
    value = f"{row.value:.3f}" if top is None or row.value < top else f"**{row.value:.3f}**"
    return f"{value} ± {row.seed_sd:.3f}" if len(row.seeds) > 1 else value
