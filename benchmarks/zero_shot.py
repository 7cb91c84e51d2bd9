"""Does an encoder that only learned what comes next know who is at risk? python benchmarks/zero_shot.py FOLDER.

The outcome is a code that comes after the prediction and before the end of the record. The encoder learned `next_event`
from the whole records of training patients and no label; of held-out patients it sees what was before the prediction,
draws futures, and the share in which the code comes is the risk. It is held against the same network that learned from
the labels, and against chance. On timelines of a Markov chain the best possible risk is known too. With --eicu, the
folder of `ehrfusion data eicu`, the code is mechanical ventilation in the two days after the first.
"""

from __future__ import annotations

import argparse
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scaling import chain, write_folder

from encoders.codes.futures import future_risk
from experiments.config import Config, parse_config
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import build_model, preparations
from experiments.metrics import METRICS
from experiments.pretraining.run import pretrain
from experiments.scoring import Score, Tested
from experiments.train import train
from experiments.workspace import open_store
from fusion import Architecture, Spec

KNOWN, STEPS = 32, 4  # states before the prediction, and states in which the rare one may come
KEPT = r"^(DX|TREATMENT|ADMISSION_DX|AGE|GENDER|INFUSION)//"
VENTILATION = "TREATMENT//pulmonary|ventilation and oxygenation|mechanical ventilation"


def write_markov(folder: Path, patients: int) -> tuple[list[str], float, NDArray[np.float64]]:
    """Write timelines with a state every twenty minutes, of which half is known; return what may come, and its risk.

    Shape:
        risk (patients,), the true one.
    """
    write_folder(folder, patients, 0)
    shard = next((folder / "data").glob("*.parquet"))
    events = pl.read_parquet(shard)
    begin = datetime(2020, 1, 1)
    place = pl.int_range(pl.len()).over("subject_id")
    events = events.with_columns(time=begin + place * timedelta(minutes=20))
    events.write_parquet(shard)
    move, stationary, _ = chain(0)
    rare = int(np.argmin(np.abs(stationary - 0.05)))
    states = events["code"].str.split("//").list.last().cast(pl.Int64).to_numpy().reshape(patients, -1)
    comes = (states[:, KNOWN : KNOWN + STEPS] == rare).any(1)
    away = move.copy()
    away[:, rare] = 0.0  # paths that keep clear of it
    risk = 1 - np.linalg.matrix_power(away, STEPS).sum(1)[states[:, KNOWN - 1]]
    early = begin + timedelta(minutes=20 * (KNOWN - 1) + 1)
    for name, when in (("early", early), ("late", begin + timedelta(days=2))):
        labels = {"subject_id": np.arange(1, patients + 1), "prediction_time": [when] * patients}
        pl.DataFrame(labels | {"boolean_value": comes}).write_parquet(folder / "labels" / f"{name}.parquet")
    return [f"STATE//{rare}"], (15 * STEPS + 1) / 1440, risk  # a gap counts as the shortest of its kind: 15 minutes


def write_eicu(source: Path, folder: Path) -> list[str]:
    """Copy diagnoses and treatments, label who has mechanical ventilation in the two days to come; return its codes."""
    if not folder.exists():
        shutil.copytree(source, folder)
    labels = pl.read_parquet(source / "labels" / "hospital_mortality.parquet").unique("subject_id", keep="first")
    found: list[str] = []
    coming = set()
    when = labels.select("subject_id", "prediction_time")
    for shard in (source / "data").glob("*.parquet"):
        events = pl.read_parquet(shard).filter(pl.col("code").str.contains(KEPT))
        events.write_parquet(folder / "data" / shard.name)
        later = events.filter(pl.col("code").str.starts_with(VENTILATION)).join(when, on="subject_id")
        apart = pl.col("time") - pl.col("prediction_time")
        found += later["code"].unique().to_list()
        coming |= set(later.filter((apart > timedelta(0)) & (apart <= timedelta(days=2)))["subject_id"].to_list())
    early = when.with_columns(boolean_value=pl.col("subject_id").is_in(coming)).sort("subject_id")
    early.write_parquet(folder / "labels" / "early.parquet")
    late = early.with_columns(pl.col("prediction_time") + timedelta(days=2))
    late.write_parquet(folder / "labels" / "late.parquet")
    return sorted(set(found))


def config_of(runs: Path, folder: Path, labels: str, dim: int, epochs: int, tokens: int) -> Config:
    """Return an experiment on timelines, and its pre-training."""
    shared = {"warmup_steps": 20, "decay": True, "patience": 100}
    return parse_config(
        {
            "name": f"zero-shot-{folder.name}",
            "runs": str(runs),
            "data": {"folder": str(folder), "labels": labels, "preprocess": {"codes": {"max_tokens": tokens}}},
            "training": {**shared, "epochs": 15, "batch_size": 32, "lr": 3e-3},
            "model": {"encoders": {"codes": "timeline"}, "fusion": "early", "dim": dim},
            "compare": {"folds": 1},
            "pretrain": {
                "encoders": {"codes": "timeline"},
                "objectives": ["next_event"],
                **shared,
                "dim": dim,
                "epochs": epochs,
                "batch_size": 32,
                "lr": 1e-2,
            },
        }
    )


def zero_shot(
    early: Config, artefact: Path, rows: NDArray[np.int64], codes: list[str], horizon: float, most: int
) -> NDArray[np.float64]:
    """Return the risk of rows from drawn futures. Shape: rows (N,) -> (N,)."""
    spec = Spec("artefact", {"path": str(artefact / "codes"), "use": "frozen"})
    architecture = Architecture({"codes": spec}, Spec("early"), int(early.model.dim))  # type: ignore[union-attr]
    plans = preparations(architecture, {})
    store = open_store(early)
    store.prepare(list(plans.values()))
    preprocessor: Any = store.preprocessor(plans["codes"])  # of an artefact: the timeline and its network are within
    artefacts: Any = build_model(architecture, {"codes": preprocessor}, 1).encoders["codes"]
    encoder = artefacts.inner.eval()
    inputs: Any = store.source(plans["codes"]).collate(torch.as_tensor(rows))
    there = inputs.mask.any(1)
    inputs = type(inputs)(inputs.ids[there], inputs.mask[there])
    drawn = future_risk(
        encoder, preprocessor.inner, inputs, codes, horizon_days=horizon, samples=50, most_tokens=most
    ).numpy()
    risk = np.full(len(rows), drawn.mean(), dtype=np.float64)  # who has nothing has the average risk
    risk[there.numpy()] = drawn.astype(np.float64)
    return risk


def show(
    runs: Path, folder: Path, codes: list[str], horizon: float, settings: tuple[int, int, int, int],
    truth: NDArray[np.float64] | None,
) -> None:  # fmt: skip
    """Pre-train, ask without labels, learn from labels, and print the AUROCs."""
    dim, epochs, tokens, most = settings
    started = time.process_time()
    early = config_of(runs, folder, "early", dim, epochs, tokens)
    late = config_of(runs, folder, "late", dim, epochs, tokens)
    found = pretrain(late, open_store(late))
    store = open_store(early)
    rows = store.cohort.rows("held_out")
    tested = Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows], None, resamples=1000, seed=0)
    risks: dict[str, NDArray[Any]] = {"futures, no label": zero_shot(early, found.folder, rows, codes, horizon, most)}
    fit = train(early.model.architecture(), store, early.training, 0, preprocess=early.data.preprocess)  # type: ignore[union-attr]
    predicted = squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows))
    risks["from labels"] = predicted.astype(np.float64)
    if truth is not None:
        risks["the true risk"] = truth[store.cohort.subject_ids[rows] - 1]
    scores = {name: tested.score([METRICS["auroc"]], each)["auroc"] for name, each in risks.items()}
    print(f"{folder.name}: the code comes to {store.cohort.targets[rows].sum():.0f} of {len(rows)} held-out patients")
    for name, each in scores.items():
        print(f"{name}: AUROC {_words(each)}", flush=True)
    apart = scores["futures, no label"].minus(scores["from labels"])
    print(f"without labels less with: {_words(apart)}; {time.process_time() - started:.0f} s of CPU", flush=True)


def _words(score: Score) -> str:
    found = score.interval
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def main() -> None:
    """Print zero-shot and supervised AUROCs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--eicu", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder
    if arguments.eicu is not None:
        codes = write_eicu(arguments.eicu, folder / "eicu")
        show(folder / "runs", folder / "eicu", codes, 2.0, (32, 10, 128, 48), None)
        return
    shutil.rmtree(folder / "markov", ignore_errors=True)
    codes, horizon, risk = write_markov(folder / "markov", arguments.patients)
    show(folder / "runs", folder / "markov", codes, horizon, (16, 8, 128, 2 * STEPS + 1), risk)


if __name__ == "__main__":
    main()
