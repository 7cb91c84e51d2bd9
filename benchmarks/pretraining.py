"""Does pre-training pay where labels are few, and is it for the right reason? python benchmarks/pretraining.py.

On `synergy` (code XOR note) a tenth of the training patients keep their label. Encoders pre-trained on the records of
all training patients, then fine-tuned, are held against the same network from scratch: the same seeds, the held-out
patients, and the difference with its 95% interval over patients. Then the notes are permuted between patients,
everywhere and in pre-training only.

What of a gain comes from codes and notes being of one patient is measured where there is something to learn from that:
on `rare` the label hangs on a parent code whose leaves are rare, and notes say what the codes are called. The network
that is fine-tuned reads codes alone; who learned codes and notes together knows which leaves belong together. The same
objectives with notes permuted in pre-training tell what is left without the pairing.

Last, codes and notes of one patient are aligned, where notes tell what the codes say and where they are permuted, and
the right patient is looked for among those that judge.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from experiments.config import Config, parse_config
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.metrics import METRICS
from experiments.pretraining.run import Pretrained, finished, pretrain
from experiments.scoring import Score, Tested, mean_score
from experiments.sources.synthetic import RECIPES, Recipe, write_synthetic
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


def config_of(runs: Path, name: str, folder: Path, labels: str, seed: int = 0, **pretraining: Any) -> Config:
    """Return an experiment on a cohort, from scratch."""
    data = {"folder": str(folder), "labels": labels, "preprocess": PREPROCESS}
    training = {"epochs": 40, "patience": 40, "warmup_steps": 20, "batch_size": 32}
    settings: dict[str, Any] = {"name": name, "runs": str(runs), "seed": seed, "data": data, "training": training}
    settings["model"] = {"encoders": ENCODERS, "fusion": "cross_attention", "dim": DIM}
    settings["compare"] = {"folds": 1}
    settings["pretrain"] = {"encoders": ENCODERS, "dim": DIM, **pretraining}
    return parse_config(settings)


def pretrained(runs: Path, name: str, folder: Path, seed: int = 0, **pretraining: Any) -> Pretrained:
    """Pre-train on all patients of the train split."""
    config = config_of(runs, name, folder, "outcome", seed, **pretraining)
    return pretrain(config, open_store(config))


def start(runs: Path, name: str, folder: Path, seed: int, **pretraining: Any) -> Path:
    """Return where encoders lie that were pre-trained so, now or before."""
    config = config_of(runs, name, folder, "outcome", seed, **pretraining)
    store = open_store(config)
    return finished(config, store) or pretrain(config, store).folder


def encoders_of(use: str, reads: Sequence[str], artefacts: Path | None) -> dict[str, Any]:
    """Return encoders of some modalities from scratch, or those of a folder in one of their uses."""
    if artefacts is None:
        return {each: ENCODERS[each] for each in reads}
    return {each: {"name": "artefact", "path": str(artefacts / each), "use": use} for each in reads}


def score(runs: Path, folder: Path, use: str, reads: Sequence[str], artefacts: Sequence[Path | None]) -> Score:
    """Return the held-out AUROC of training on the labelled patients from each start, each with a seed of its own."""
    config = config_of(runs, "gain", folder, "tenth")
    store = open_store(config)
    rows = store.cohort.rows("held_out")
    tested = Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows], None, resamples=1000, seed=0)
    scores = []
    for seed, each in enumerate(artefacts):
        model = config.model.model_copy(update={"encoders": encoders_of(use, reads, each)})  # type: ignore[union-attr]
        preprocess = {name: PREPROCESS[name] for name in reads} if each is None else {}
        fit = train(model.architecture(), store, config.training, seed, preprocess=preprocess)
        found = squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows))
        scores.append(tested.score([METRICS["auroc"]], found)["auroc"])
    return mean_score(scores)


def against(words: str, mine: Score, other: Score) -> None:
    """Print a score and its paired difference from another."""
    apart = mine.minus(other).interval
    verdict = "above 0" if apart.low > 0 else "below 0" if apart.high < 0 else "not apart from 0"
    print(
        f"{words}: AUROC {mine.value:.3f} against {other.value:.3f}; difference {apart.value:+.3f} "
        f"({apart.low:+.3f} to {apart.high:+.3f}), {verdict}; {time.process_time():.0f} s of CPU so far",
        flush=True,
    )


def show_gains(
    runs: Path, own: Path, permuted: Path, reads: Sequence[str], uses: Sequence[str], seeds: int, **settings: Any
) -> None:
    """Print what an objective gains over no pre-training, with the patients' own notes and with those of others.

    The difference between the two is what was learned from notes and codes being of one patient.
    """
    words, name = (mark.join(settings["objectives"]) for mark in (" + ", "-"))
    alone = settings["objectives"] == ["masked"] and len(reads) == 1  # whose notes they are makes no difference
    starts = {
        folder: [start(runs, f"{name}-{folder.name}-{seed}", folder, seed, **settings) for seed in range(seeds)]
        for folder in ((own,) if alone else (own, permuted))
    }
    scratch = score(runs, own, "", reads, [None] * seeds)
    for use in uses:
        mine, *rest = (score(runs, own, use, reads, found) for found in starts.values())
        against(f"{words}, {use}, against from scratch", mine, scratch)
        for others in rest:
            against(f"{words}, {use}, notes permuted in pre-training, against from scratch", others, scratch)
            against(f"{words}, {use}, own notes against permuted: what the pairing gives", mine, others)
    if "masked" in settings["objectives"] and len(reads) > 1:
        nothing = score(runs, permuted, "", reads, [None] * seeds)
        mine = score(runs, permuted, "fine_tune", reads, starts[permuted])
        against(f"{words}, fine_tune, notes permuted everywhere, against from scratch", mine, nothing)


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
    parser.add_argument("--objectives", nargs="+", action="append", default=None, help="once for each set")
    parser.add_argument("--uses", nargs="+", default=["fine_tune"])
    parser.add_argument("--only", choices=("gain", "pairing", "retrieval"), default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining-benchmark"))
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run left")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # two threads of a small network take more than twice as long
    runs, patients, epochs = arguments.runs, arguments.patients, arguments.epochs
    if arguments.fresh:
        shutil.rmtree(runs, ignore_errors=True)
    shared = {"epochs": epochs, "patience": epochs}
    if arguments.only in (None, "gain"):
        own = write_folder(runs / "synergy", "synergy", patients)
        permuted = write_folder(runs / "synergy-permuted", "synergy", patients, "permuted")
        for objectives in arguments.objectives or [["masked"]]:
            settings = {**shared, "objectives": objectives}
            show_gains(runs, own, permuted, list(ENCODERS), arguments.uses, arguments.seeds, **settings)
    if arguments.only in (None, "pairing"):
        cast(dict[str, Recipe], RECIPES)["rare"] = replace(RECIPES["ancestor"], leaves=300)
        own = write_folder(runs / "rare", "rare", patients // 2, "telling")
        permuted = write_folder(runs / "rare-permuted", "rare", patients // 2, "telling permuted")
        for objectives in arguments.objectives or [["masked"], ["contrastive"], ["umm_plm"]]:
            settings = {**shared, "objectives": objectives}
            show_gains(runs, own, permuted, ["codes"], arguments.uses, arguments.seeds, **settings)
    if arguments.only in (None, "retrieval"):
        for notes in ("telling", "telling permuted"):
            folder = write_folder(runs / notes.replace(" ", "-"), "mixed", patients // 2, notes)
            show_retrieval(runs, f"codes and notes that are {notes}", folder, epochs)


if __name__ == "__main__":
    main()
