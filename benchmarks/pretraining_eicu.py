"""What pre-training gives on eICU's demo: python benchmarks/pretraining_eicu.py FOLDER (of `ehrfusion data eicu`).

Codes and notes of a patient are aligned, and the right one is looked for among held-out patients, once. Then encoders
pre-trained on the records of all training patients are fine-tuned for death in hospital with a tenth and with all of
the labels, and held against the same network from scratch.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from experiments.config import Config, parse_config
from experiments.data.store import Store
from experiments.device import move
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import preparations
from experiments.metrics import METRICS
from experiments.pretraining.retrieval import both_of, found_at_once
from experiments.pretraining.run import architecture_of, begin, check_pretrain, first_rows, pretrain
from experiments.scoring import Score, Tested, mean_score
from experiments.statistics.bootstrap import Resamples, mean_distribution
from experiments.statistics.intervals import interval
from experiments.train import train
from experiments.workspace import open_store

LABELS = "hospital_mortality"
DIM = 32
BOTH = {"codes": "transformer", "notes": "transformer"}
TIMELINE = {"codes": "timeline", "notes": "transformer"}
PREPROCESS = {"transformer": {"max_events": 128, "bin_hours": 12}, "timeline": {"max_tokens": 192}}
OF: dict[str, dict[str, Any]] = {
    "contrastive": {"epochs": 40, "lr": 3e-3},
    "masked": {"epochs": 20},
    "umm_plm": {"epochs": 15, "diagnoses": ["DX//", "ADMISSION_DX//"], "drugs": ["DRUG//", "HOME_DRUG//"]},
    "next_event": {"epochs": 10, "lr": 3e-3},
}
"""Settings of each objective; those of contrast were chosen by the training patients that judge."""


def write_tenth(folder: Path) -> None:
    """Write labels that nine in ten training patients lack."""
    split = pl.read_parquet(folder / "metadata" / "subject_splits.parquet")
    learned = split.filter(pl.col("split") == "train")["subject_id"].sort().to_numpy()
    labels = pl.read_parquet(folder / "labels" / f"{LABELS}.parquet")
    labelled = np.intersect1d(learned, labels["subject_id"].unique().to_numpy())
    without = np.random.default_rng(0).permutation(labelled)[len(labelled) // 10 :].tolist()
    labels.filter(~pl.col("subject_id").is_in(without)).write_parquet(folder / "labels" / "tenth.parquet")


def without(source: Path, folder: Path, prefix: str) -> Path:
    """Copy a folder without the codes of a kind."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for shard in (folder / "data").glob("*.parquet"):
        pl.read_parquet(shard).filter(~pl.col("code").str.starts_with(prefix)).write_parquet(shard)
    return folder


def config_of(runs: Path, folder: Path, labels: str, objective: str, seed: int = 0) -> Config:
    """Return an experiment, with the pre-training of an objective."""
    encoders = TIMELINE if objective == "next_event" else BOTH
    training = {"epochs": 15, "patience": 15, "warmup_steps": 20, "batch_size": 32}
    shared = {"dim": DIM, "warmup_steps": 20, "decay": True, "patience": 100, **OF[objective]}
    learned = {"codes": "timeline"} if objective == "next_event" else BOTH
    preprocess = {"codes": PREPROCESS[encoders["codes"]], "notes": {"max_tokens": 192}}
    return parse_config(
        {
            "name": f"eicu-{objective.replace('_', '-')}",
            "seed": seed,
            "runs": str(runs),
            "data": {"folder": str(folder), "labels": labels, "preprocess": preprocess},
            "training": training,
            "model": {"encoders": encoders, "fusion": "cross_attention", "dim": DIM},
            "compare": {"folds": 1},
            "pretrain": {"encoders": learned, "objectives": [objective], **shared},
        }
    )


def show_retrieval(runs: Path, folder: Path, seed: int) -> None:
    """Align codes and notes and print how often the right held-out patient is the nearest."""
    started = time.process_time()
    config = config_of(runs, folder, LABELS, "contrastive", seed)
    settings, store = check_pretrain(config), open_store(config)
    architecture = architecture_of(settings)
    plans = preparations(architecture, config.data.preprocess)
    run, objectives = begin(config, settings, store, plans, architecture)
    kept: dict[str, Any] = {}

    def keep(epoch: int, _: dict[str, float]) -> None:
        if run.state.best_epoch == epoch:
            kept.update(copy.deepcopy(objectives.state_dict()))

    run.loop(keep, None, None)
    run.model.load_state_dict(run.state.best, strict=False)
    objectives.load_state_dict(kept)
    run.model.eval()
    objectives.eval()
    best = run.state.history[run.state.best_epoch - 1]
    judged, many = best["recall_codes_notes"], best["recall_codes_notes_patients"]
    print(
        f"chosen epoch {run.state.best_epoch} of {run.state.epoch}: the right one of {many:.0f} training patients that "
        f"judge is nearest in {judged:.1%}, {judged * many:.1f} times chance",
        flush=True,
    )
    vectors = []
    rows = first_rows(store, store.cohort.rows("held_out"))
    with torch.no_grad():
        for batch in run.batches(rows, shuffle=False):
            vectors.append(objectives.vectors(run.model, move(batch.inputs, run.device)))
    hits = found_at_once(*both_of(vectors, "codes", "notes")).cpu().numpy()[:, None]
    drawn = Resamples.draw(np.arange(len(hits)), 1000, 0)
    apart = interval(float(hits.mean()), mean_distribution(hits, drawn)[:, 0])
    share = f"{apart.value:.1%} ({apart.low:.1%} to {apart.high:.1%})"
    times = f"{apart.value * len(hits):.1f} times chance ({apart.low * len(hits):.1f} to {apart.high * len(hits):.1f})"
    print(
        f"held out: the right one of {len(hits)} is nearest in {share}, {times}; "
        f"{time.process_time() - started:.0f} s of CPU",
        flush=True,
    )


def scored(config: Config, store: Store, encoders: dict[str, Any], seeds: int) -> Score:
    """Train with each seed and return the held-out AUROC."""
    rows = store.cohort.rows("held_out")
    tested = Tested.of(store.cohort.targets[rows], store.cohort.subject_ids[rows], None, resamples=1000, seed=0)
    model = config.model.model_copy(update={"encoders": encoders})  # type: ignore[union-attr]
    preprocess = {
        name: options
        for name, options in config.data.preprocess.items()
        if not isinstance(encoders[name], dict)  # an artefact brings its own
    }
    scores = []
    for seed in range(seeds):
        fit = train(model.architecture(), store, config.training, seed, preprocess=preprocess)
        found = squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows))
        scores.append(tested.score([METRICS["auroc"]], found)["auroc"])
    return mean_score(scores)


def show_gains(runs: Path, folder: Path, objectives: Sequence[str], seeds: int) -> None:
    """Print what pre-training with each objective gains over the same network from scratch."""
    scratch: dict[tuple[str, str], Score] = {}
    for objective in objectives:
        started = time.process_time()
        config = config_of(runs, folder, LABELS, objective)
        found = pretrain(config, open_store(config))
        print(f"pre-trained with {objective}: {time.process_time() - started:.0f} s of CPU", flush=True)
        for labels, words in (("tenth", "a tenth of the labels"), (LABELS, "all labels")):
            started = time.process_time()
            config = config_of(runs, folder, labels, objective)
            store = open_store(config)
            plain = dict(config.model.encoders)  # type: ignore[union-attr]
            ready = {name: {"name": "artefact", "path": str(found.folder / name)} for name in found.fingerprints}
            key = plain["codes"], labels
            if key not in scratch:
                scratch[key] = scored(config, store, plain, seeds)
            mine = scored(config, store, {**plain, **ready}, seeds)
            apart = mine.minus(scratch[key]).interval
            verdict = "above 0" if apart.low > 0 else "below 0" if apart.high < 0 else "not apart from 0"
            print(
                f"{objective}, {words}: AUROC {mine.value:.3f} against {scratch[key].value:.3f} from scratch; "
                f"difference {apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), {verdict}; "
                f"{time.process_time() - started:.0f} s of CPU",
                flush=True,
            )


def main() -> None:
    """Print what alignment finds and what pre-training gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--objectives", nargs="+", choices=list(OF), default=list(OF))
    parser.add_argument("--only", choices=("gain", "retrieval"), default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining-eicu"))
    parser.add_argument("--without", default=None, help="codes to leave out: HISTORY// is what notes of history say")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.without:
        arguments.folder = without(arguments.folder, arguments.runs / "data", arguments.without)
    write_tenth(arguments.folder)
    if arguments.only != "gain":
        show_retrieval(arguments.runs, arguments.folder, 0)
    if arguments.only != "retrieval":
        show_gains(arguments.runs, arguments.folder, arguments.objectives, arguments.seeds)


if __name__ == "__main__":
    main()
