"""Does pre-training pay where labels are few, and is it for the right reason? python benchmarks/pretraining.py.

On `synergy` (code XOR note) a tenth of the training patients keep their label. Encoders pre-trained on the records of
all training patients, then fine-tuned, are held against the same network from scratch: the same seeds, the held-out
patients, and the difference with its 95% interval over patients. Then the notes are permuted between patients,
everywhere and in pre-training only. Last, codes and notes of one patient are aligned, where notes tell what the codes
say and where they are permuted, and the right patient is looked for among those that judge.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from experiments.config import Config, parse_config
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.metrics import METRICS
from experiments.pretraining.run import Pretrained, pretrain
from experiments.scoring import Score, Tested, mean_score
from experiments.sources.synthetic import write_synthetic
from experiments.train import train
from experiments.workspace import open_store

LABELLED = 0.1
ENCODERS = {"codes": "transformer", "notes": "transformer"}
PREPROCESS = {"codes": {"max_events": 96}, "notes": {"max_tokens": 128}}
DIM = 32


def write_folder(folder: Path, recipe: str, patients: int, notes: str = "own") -> Path:
    """Write a cohort with a second label, `tenth`, that nine in ten training patients lack; notes may be another's.

    Args:
        notes: "own", "permuted" between the patients who have notes, "telling" what the patient's codes are called,
            or "telling permuted".
    """
    if folder.exists():
        return folder
    write_synthetic(folder, patients=patients, recipe=recipe, seed=0)
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    split = pl.read_parquet(folder / "metadata" / "subject_splits.parquet")
    train = split.filter(pl.col("split") == "train")["subject_id"].to_numpy()
    rng = np.random.default_rng(0)
    without = rng.permutation(train)[round(len(train) * LABELLED) :].tolist()
    kept = labels.filter(~pl.col("subject_id").is_in(without))
    kept.write_parquet(folder / "labels" / "tenth.parquet")
    shard = folder / "data" / "00000.parquet"
    events = pl.read_parquet(shard)
    if "telling" in notes:
        events = _telling(events, pl.read_parquet(folder / "metadata" / "codes.parquet"))
    if "permuted" in notes:
        events = _permuted(events, labels, rng)
    events.write_parquet(shard)
    return folder


def _early() -> pl.Expr:
    return pl.col("code").str.starts_with("NOTE//") & (pl.col("code") != "NOTE//discharge")


def _telling(events: pl.DataFrame, codes: pl.DataFrame) -> pl.DataFrame:
    """Write into each note what the patient's diagnoses and drugs are called."""
    named = events.join(codes.select("code", "description"), on="code").filter(
        pl.col("code").str.contains("^(ICD10CM|ATC)//") & (pl.col("code") != "ICD10CM//Z51.5")
    )
    told = named.group_by("subject_id").agg(pl.col("description").unique().sort().str.join(". ").alias("told"))
    joined = events.join(told, on="subject_id", how="left", maintain_order="left")
    text = pl.when(_early() & pl.col("told").is_not_null()).then(pl.col("told")).otherwise(pl.col("text_value"))
    return joined.with_columns(text_value=text).drop("told")


def _permuted(events: pl.DataFrame, labels: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Give each patient with notes those of another, as long before the prediction as they were there."""
    notes, rest = events.filter(_early()), events.filter(~_early())
    owners = notes["subject_id"].unique().sort().to_numpy()
    mixed = rng.permutation(owners)
    when = dict(zip(labels["subject_id"].to_list(), labels["prediction_time"].to_list(), strict=True))
    given = pl.DataFrame(
        {
            "subject_id": mixed,
            "owner": owners,
            "later": [when[new] - when[old] for old, new in zip(mixed.tolist(), owners.tolist(), strict=True)],
        }
    )
    moved = notes.join(given, on="subject_id").with_columns(
        pl.col("owner").alias("subject_id"), (pl.col("time") + pl.col("later")).alias("time")
    )
    return pl.concat([rest, moved.select(rest.columns)]).sort("subject_id", "time", maintain_order=True)


def config_of(runs: Path, name: str, folder: Path, labels: str, **pretraining: Any) -> Config:
    """Return an experiment on a cohort, from scratch."""
    data = {"folder": str(folder), "labels": labels, "preprocess": PREPROCESS}
    training = {"epochs": 40, "patience": 40, "warmup_steps": 20, "batch_size": 32}
    settings: dict[str, Any] = {"name": name, "runs": str(runs), "data": data, "training": training}
    settings["model"] = {"encoders": ENCODERS, "fusion": "cross_attention", "dim": DIM}
    settings["compare"] = {"folds": 1}
    settings["pretrain"] = {"encoders": ENCODERS, "dim": DIM, **pretraining}
    return parse_config(settings)


def pretrained(runs: Path, name: str, folder: Path, **pretraining: Any) -> Pretrained:
    """Pre-train on all patients of the train split."""
    config = config_of(runs, name, folder, "outcome", **pretraining)
    return pretrain(config, open_store(config))


def predictions(config: Config, store: Store, encoders: Mapping[str, Any], seeds: int) -> list[Any]:
    """Train on the labelled patients with each seed and predict the held-out ones. Shape: (held out,) each."""
    model = config.model.model_copy(update={"encoders": dict(encoders)})  # type: ignore[union-attr]
    found = []
    for seed in range(seeds):
        preprocess = PREPROCESS if encoders == ENCODERS else {}
        fit = train(model.architecture(), store, config.training, seed, preprocess=preprocess)
        rows = store.cohort.rows("held_out")
        found.append(squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows)))
    return found


def gain(runs: Path, name: str, folder: Path, artefacts: Path, use: str, seeds: int) -> tuple[Score, Score]:
    """Return the held-out AUROC with pre-trained encoders and from scratch, on the same resampled patients."""
    config = config_of(runs, name, folder, "tenth")
    store = open_store(config)
    rows = store.cohort.rows("held_out")
    tested = Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows], None, resamples=1000, seed=0)
    ready = {each: {"name": "artefact", "path": str(artefacts / each), "use": use} for each in ENCODERS}
    scores = []
    for encoders in (ready, ENCODERS):
        found = predictions(config, store, encoders, seeds)
        scores.append(mean_score([tested.score([METRICS["auroc"]], each)["auroc"] for each in found]))
    return scores[0], scores[1]


def show_gain(runs: Path, words: str, folder: Path, artefacts: Path, use: str, seeds: int) -> None:
    """Print both AUROCs and their difference."""
    started = time.process_time()
    ready, scratch = gain(runs, "gain", folder, artefacts, use, seeds)
    apart = ready.minus(scratch).interval
    spent = time.process_time() - started
    verdict = "above 0" if apart.low > 0 else "below 0" if apart.high < 0 else "not apart from 0"
    print(
        f"{words}, {use}: AUROC {ready.value:.3f} against {scratch.value:.3f} from scratch; difference "
        f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), {verdict}; {spent:.0f} s of CPU",
        flush=True,
    )


def show_retrieval(runs: Path, words: str, folder: Path, epochs: int) -> None:
    """Print how often the right patient is found."""
    started = time.process_time()
    found = pretrained(runs, folder.name, folder, objectives=["contrastive"], epochs=epochs, patience=epochs)
    recall = found.recalls["codes-notes"]
    times = recall.value / recall.chance
    print(
        f"{words}: the right one of {recall.patients} is nearest in {recall.value:.1%}, {times:.1f} times chance; "
        f"epoch {found.best_epoch} of {found.epochs}, {time.process_time() - started:.0f} s of CPU",
        flush=True,
    )


def main() -> None:
    """Print what pre-training gains and what alignment finds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--objectives", nargs="+", default=["masked"])
    parser.add_argument("--uses", nargs="+", default=["fine_tune"])
    parser.add_argument("--only", choices=("gain", "retrieval"), default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining-benchmark"))
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run left")
    arguments = parser.parse_args()
    runs, patients, seeds = arguments.runs, arguments.patients, arguments.seeds
    if arguments.fresh:
        shutil.rmtree(runs, ignore_errors=True)
    if arguments.only != "retrieval":
        own = write_folder(runs / "synergy", "synergy", patients)
        permuted = write_folder(runs / "synergy-permuted", "synergy", patients, "permuted")
        started = time.process_time()
        settings = {"objectives": arguments.objectives, "epochs": arguments.epochs, "patience": arguments.epochs}
        mine = pretrained(runs, "own", own, **settings)
        others = pretrained(runs, "permuted", permuted, **settings)
        spent = time.process_time() - started
        print(f"pre-trained twice with {' + '.join(arguments.objectives)}: {spent:.0f} s of CPU", flush=True)
        for use in arguments.uses:
            show_gain(runs, "synergy, a tenth of the labels", own, mine.folder, use, seeds)
            show_gain(runs, "notes permuted in pre-training only", own, others.folder, use, seeds)
            show_gain(runs, "notes permuted everywhere", permuted, others.folder, use, seeds)
    if arguments.only != "gain":
        for notes in ("telling", "telling permuted"):
            folder = write_folder(runs / notes.replace(" ", "-"), "mixed", patients // 2, notes)
            show_retrieval(runs, f"codes and notes that are {notes}", folder, arguments.epochs)


if __name__ == "__main__":
    main()
