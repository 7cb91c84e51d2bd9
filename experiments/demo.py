"""The main job on synthetic records, step by step, each step shown as the command that does it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.comparing import compare_config
from experiments.config import StudyConfig, load_config
from experiments.data.check import check, render
from experiments.plots import forest_png
from experiments.predict import predict_folder
from experiments.register import register_study
from experiments.searching import run_search
from experiments.terminal import console, say
from experiments.workspace import open_store

MODEL = "demo"


def run_demo(runs: Path, workers: int | None, fresh: bool, overrides: Sequence[str]) -> int:
    """Search, compare, register and predict; say at the end how far the best possible score is."""
    started = time.monotonic()
    base = [f"runs={runs}", f"data.folder={runs / 'demo-data'}"]
    config = load_config("demo", [*base, *overrides])
    assert isinstance(config, StudyConfig)
    folder = config.data.folder

    _step(f"ehrfusion data synthetic {folder}; ehrfusion data check {folder}")
    open_store(config, progress=True)
    console().print(render(check(folder)))

    _step("ehrfusion search demo")
    result = run_search(config, workers, fresh=fresh)
    console().print(result.render())
    if not result.complete:
        return 1

    _step("ehrfusion compare demo")
    comparison, where = compare_config(config, workers=workers or config.search.workers)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    best = truth["bayes_auroc"]["held_out"]
    picture = forest_png(comparison, best, "best possible")
    (where / "comparison.png").write_bytes(picture)
    console().print(comparison.render())

    _step(f"ehrfusion register demo --name {MODEL} --promote")
    processes = workers or config.search.workers
    registered = register_study(config, MODEL, promote=True, workers=processes)
    console().print(registered.render())

    out = runs / "demo-predictions.parquet"
    _step(f"ehrfusion predict models:/{MODEL}@champion {folder} -o {out}")
    done = predict_folder(f"models:/{MODEL}@champion", folder, out, labels="outcome", runs=runs, progress=True)
    say(f"wrote {done.rows:,} predictions to {out}")

    _step("what the demo shows")
    fusion, single = comparison.best("fusion"), comparison.best("modality")
    say(f"best possible held-out AUROC (all modalities, known because the causes are planted): {best:.3f}")
    say(f"registered model: {registered.held_out['auroc'].value:.3f}")
    if fusion is not None and single is not None:
        say(f"best fusion, mean of {len(fusion.seeds)} seeds: {fusion.strategy} {fusion.value:.3f}")
        say(f"best single modality, mean of {len(single.seeds)} seeds: {single.strategy} {single.value:.3f}")
    say(f"{time.monotonic() - started:.0f} s; report: {result.report}; comparison: {where / 'comparison.html'}")
    say(f"see every run: mlflow ui --backend-store-uri sqlite:///{(runs / 'mlflow.db').resolve()}")
    return 0


def _step(command: str) -> None:
    say(f"\n$ {command}")
