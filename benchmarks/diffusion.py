"""What one diffusion model over vectors of patients is worth, thrice: python benchmarks/diffusion.py FOLDER.

Synthesis: a classifier learns from synthetic rows and is tested on held-out patients, on `mixed` and on `synergy`.
Imputation: numbers of held-out patients are hidden. Anomalies: errors are planted in copies of tuning records of a
cohort in which notes and images tell what the codes say; the model learns from training records of which a twentieth
have such errors too. All again on eICU where its demo is given. Means over seeds, 95% intervals over patients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from pretraining import write_folder

from experiments.generative.anomaly import SCORERS, fit_scorers, try_scorers
from experiments.generative.diffusion import Training
from experiments.generative.facts import facts_of
from experiments.generative.gather import Gathered, gather
from experiments.generative.imputation import WAYS, impute
from experiments.generative.model import learn
from experiments.generative.planting import KINDS, plant
from experiments.generative.synthesis import Use, synthesise
from experiments.generative.vectors import STATISTICS, fit_reader
from experiments.scoring import Score, mean_score
from experiments.sources.synthetic import write_synthetic

SPOILED = 0.05  # of the training records have an error of each kind
_SQUARES = 4  # of a picture, along and across


def planted(folder: Path, patients: int) -> Path:
    """Write a cohort in which notes name the codes of their patient and a square of the picture is lit for a code."""
    if folder.exists():
        return folder
    write_folder(folder, "mixed", patients, "telling")
    found = gather(folder, "outcome")
    codes = fit_reader(found.of("train")).codes[: _SQUARES**2]
    events = pl.read_parquet(folder / "data" / "00000.parquet").drop_nulls("image_path")
    paths = dict(events.select("subject_id", "image_path").iter_rows())
    rng = np.random.default_rng(0)
    for row, facts in enumerate(found.facts):
        path = paths.get(found.cohort.subject_ids[row])
        if path is not None:
            lit = np.array([code in facts.codes for code in codes], float).reshape(_SQUARES, _SQUARES)
            picture = 60 + 120 * np.kron(lit, np.ones((8, 8))) + rng.normal(0, 20, (32, 32))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / path)
    return folder


def spoiled(folder: Path, label: str, seed: int) -> Gathered:
    """Return a cohort with tuning records kept, of whose training records some have errors of every kind."""
    found = gather(folder, label, keep="train", most=10**9)
    rng = np.random.default_rng(seed)
    facts, rows = list(found.facts), np.array(list(found.records))
    for kind in KINDS:
        mine = rng.permutation(rows)[: round(SPOILED * len(rows))]
        wrong = plant([found.records[row] for row in mine], kind, rng)
        for row, record in zip(mine, wrong, strict=True):
            if record is not None:
                facts[row] = facts_of(record, found.ancestors)
    return replace(gather(folder, label, keep="tuning", most=1000), facts=facts)


def show_anomalies(words: str, folder: Path, label: str, training: Training, seeds: int) -> None:
    """Print how well each scorer finds each kind of planted error."""
    found: dict[tuple[str, str], list[Score]] = {}
    for seed in range(seeds):
        gathered = spoiled(folder, label, seed)
        learned = learn(gathered, replace(training, seed=seed), statistics=STATISTICS)
        scorers = fit_scorers(learned, seed)
        for kind in KINDS:
            for name, score in try_scorers(gathered, learned, scorers, kind, seed).scores.items():
                found.setdefault((kind, name), []).append(score)
    for kind in KINDS:
        told = [f"{SCORERS[name]} {_shown(found[kind, name])}" for name in SCORERS if (kind, name) in found]
        print(f"{words}, {KINDS[kind]}: {', '.join(told) or 'too few can have it'}", flush=True)


def show_imputation(words: str, folder: Path, label: str, training: Training, seeds: int) -> None:
    """Print the error of each way on hidden numbers, and of the diffusion model against iterative regression."""
    gathered = gather(folder, label)
    errors = [impute(gathered, replace(training, seed=seed)).errors for seed in range(seeds)]
    told = [f"{WAYS[way]} {_shown([each[way] for each in errors])}" for way in WAYS]
    apart = mean_score([each["diffusion"] for each in errors]).minus(mean_score([each["iterative"] for each in errors]))
    print(f"{words}, hidden numbers: {', '.join(told)}; diffusion - iterative {_shown([apart])}", flush=True)


def show_synthesis(words: str, folder: Path, label: str, training: Training, seeds: int) -> None:
    """Print what synthetic rows are worth, the mean over seeds, and what those of each seed give away."""
    gathered = gather(folder, label)
    found = [synthesise(gathered, replace(training, seed=seed)) for seed in range(seeds)]
    use = Use(mean_score([each.use.real for each in found]), mean_score([each.use.synthetic for each in found]))
    print(f"{words}, {use.line()}")
    for each in found:
        told = "not defined" if each.prevalence is None else f"{each.prevalence:.3f}"
        print(f"  shares of flags, correlation {told}", *each.closeness.lines(), sep="\n  ", flush=True)


def _shown(scores: list[Score]) -> str:
    found = mean_score(scores).interval
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where planted cohorts are written")
    parser.add_argument("--eicu", type=Path, default=None, help="a folder of `ehrfusion data eicu`")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument("--only", nargs="+", choices=("synthesis", "imputation", "anomalies"), default=None)
    parser.add_argument("--cohorts", nargs="+", choices=("mixed", "synergy", "telling", "eicu"), default=None)
    arguments = parser.parse_args()
    training = Training(steps=arguments.steps)
    cohorts = {each: (arguments.folder / each, "outcome") for each in ("mixed", "synergy", "telling")}
    if arguments.eicu is not None:
        cohorts["eicu"] = (arguments.eicu, "hospital_mortality")
    jobs: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
        "synthesis": (show_synthesis, ("mixed", "synergy", "eicu")),
        "imputation": (show_imputation, ("mixed", "eicu")),
        "anomalies": (show_anomalies, ("telling", "eicu")),
    }
    for job, (show, wanted) in jobs.items():
        for name in wanted:
            skip = name not in cohorts or name not in (arguments.cohorts or cohorts)
            if skip or job not in (arguments.only or jobs):
                continue
            started, (folder, label) = time.process_time(), cohorts[name]
            if name == "telling":
                planted(folder, arguments.patients)
            elif not folder.exists():
                write_synthetic(folder, patients=arguments.patients, recipe=name)
            show(name, folder, label, training, arguments.seeds)
            print(f"{job} on {name}: {time.process_time() - started:.0f} s of CPU\n", flush=True)


if __name__ == "__main__":
    main()
