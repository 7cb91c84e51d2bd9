"""What each mechanism claims, on patients for whom it must show: `python benchmarks/claims.py`.

Every line names a claim, the figures on held-out synthetic patients (mean over seeds), and whether the claim is shown:
the difference is above zero with every seed. A claim that is not shown stays in the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from experiments.benchmark import recipe_config
from experiments.config import Config, parse_config
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.evaluate import predict_sources
from experiments.feeding import sources
from experiments.jobs import JobFailure, run_jobs
from experiments.metrics import METRICS
from experiments.sources.synthetic.recipes import RECIPES
from experiments.train import Fit, train
from experiments.whole import whole_file
from experiments.workspace import code_fingerprint, open_store
from fusion import Architecture
from fusion.layers import masked_mean
from fusion.tokens import clean, present

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Claim:
    """A mechanism's claim: the figure of the mechanism minus that of what it is compared with is above zero."""

    text: str
    what: str
    mechanism: Mapping[str, Any]
    control: Mapping[str, Any]


ANCESTOR = {"recipe": "ancestor", "patients": 3000, "measure": "auroc"}
GONE = {
    "recipe": "unique",
    "weights": {"image": 3.0},
    "patients": 4000,
    "measure": "auroc_without_images",
}
GONE |= {"image_missing": 0.0, "note_missing": 0.1}  # what decides most, and training never did without it
FULL = {"codes": "bag", "notes": "bag", "images": "conv", "graph": "ancestors"}


def _fusion(name: str, **settings: Any) -> dict[str, Any]:
    return {"encoders": FULL, "fusion": {"name": name, **settings}}


def _codes(name: str) -> dict[str, Any]:
    return {**ANCESTOR, "encoders": {"codes": name}, "fusion": "early"}


def _graph(name: str) -> dict[str, Any]:
    return {**ANCESTOR, "encoders": {"graph": name}, "fusion": "early"}


DISAPPEARS: dict[str, dict[str, Any]] = {
    "AUROC where 85% lack the image and 50% the note, 10% did in training; against early fusion": {
        "recipe": "missing",
        "patients": 1200,
        "measure": "auroc",
    },
    "AUROC without any image, which nobody lacked in training and decides most; against early fusion": GONE,
}
GATES = {"recipe": "unique", "patients": 3000, "image_missing": 0.0, "note_missing": 0.0, "measure": "weight_of_images"}
TELLING, NOISY = {**GATES, "weights": {"image": 2.0}}, {**GATES, "weights": {"image": 0.0}}
WEAK: dict[str, Any] = {"recipe": "unique", "encoders": {"notes": "bag", "images": "conv"}, "fusion": "early"}
WEAK |= {"weights": {"note": 3.0, "disease": 0.0, "family": 0.0}, "image_missing": 0.0, "note_missing": 0.0}
WEAK |= {"measure": "probe_of_images"}  # the note decides most and is learned first
CLAIMS = [
    *(
        Claim(
            f"{name}: the gate closes on a modality that is noise",
            "share of the weight, images that say much against images that say nothing",
            {**TELLING, **_fusion(name)},
            {**NOISY, **_fusion(name)},
        )
        for name in ("gated", "late")
    ),
    *(
        Claim(
            f"{name}: holds up when the image disappears at test time",
            what,
            {**setting, **_fusion(name)},
            {**setting, **_fusion("early")},
        )
        for name in ("flexmoe", "fusemoe", "multimodn", "product_of_experts", "shaspec", "drfuse")
        for what, setting in DISAPPEARS.items()
    ),
    Claim(
        "modality dropout: holds up when the image disappears at test time",
        "AUROC of early fusion without any image, with and without",
        {**GONE, **_fusion("early"), "training": {"modality_dropout": 0.3}},
        {**GONE, **_fusion("early")},
    ),
    *(
        Claim(
            f"{name}: raises the modality that lags behind",
            "AUROC of a linear probe on the image encoder, with and without",
            {**WEAK, "training": {"balance": name}},
            WEAK,
        )
        for name in ("ogm_ge", "info_reg")
    ),
    Claim(
        "descriptions (DescEmb): ranks patients by codes never seen in training",
        "AUROC on rare leaves, against codes by number",
        _codes("descriptions"),
        _codes("bag"),
    ),
    *(
        Claim(
            f"{name}: helps on rare leaves",
            "AUROC on rare leaves, against codes by number",
            _graph(name),
            _codes("bag"),
        )
        for name in ("ancestors", "hap", "gbert", "gcn", "gat", "rgcn", "personal")
    ),
]


def experiment(settings: Mapping[str, Any], folder: Path) -> Config:
    """Return the experiment of one side of a claim."""
    plain = recipe_config(settings["recipe"], folder, patients=settings.get("patients", 2000)).model_dump(mode="json")
    rates = {name: settings[name] for name in ("note_missing", "image_missing") if name in settings}
    weights = [f"{cause}{weight}" for cause, weight in settings.get("weights", {}).items()]
    place = "-".join([settings["recipe"], *weights, *(f"{rate}" for rate in rates.values())])
    plain["data"] |= {"folder": str(folder / "claims" / f"{place}-{settings.get('patients', 2000)}")}
    plain["data"]["synthetic"] |= rates
    plain["model"] = {"encoders": settings["encoders"], "fusion": settings["fusion"], "dim": 32}
    plain["training"] |= settings.get("training", {})
    return parse_config(plain)


def run(job: Mapping[str, Any]) -> float:
    """Train one side of a claim with one seed and return its figure on the held-out split; kept, so never run twice."""
    settings, folder = job["settings"], Path(job["folder"])
    key = hashlib.sha256(f"{code_fingerprint()}|{json.dumps(job, sort_keys=True)}".encode()).hexdigest()[:20]
    done = folder / "claims" / f"{key}.json"
    if done.is_file():
        return float(json.loads(done.read_text(encoding="utf-8")))
    config = experiment(settings, folder)
    store = opened(settings, config)
    architecture = Architecture.from_dict(config.model_dump()["model"])
    fit = train(architecture, store, config.training, job["seed"], preprocess=config.data.preprocess)
    value = MEASURES[settings["measure"]](fit, store)
    with whole_file(done) as temporary:
        temporary.write_text(json.dumps(value), encoding="utf-8")
    return value


def opened(settings: Mapping[str, Any], config: Config) -> Store:
    """Open a side's patients; where they do not exist yet they are written, with other weights of causes if asked."""
    recipe = RECIPES[settings["recipe"]]
    changed = {settings["recipe"]: replace(recipe, weights={**recipe.weights, **settings.get("weights", {})})}
    with mock.patch.dict(RECIPES, changed):
        return open_store(config)


def auroc(fit: Fit, store: Store, without: str | None = None) -> float:
    """Return the held-out AUROC, with one modality taken from everybody if asked for."""
    rows = store.cohort.rows("held_out")
    feeds = sources(fit.model, fit.preparations, store, ("held_out",), CPU)
    if without is not None:
        nobody = torch.full_like(feeds[without].row_index, -1)
        feeds[without] = replace(feeds[without], row_index=nobody)
    found = predict_sources(fit.model, feeds, store, rows, CPU)
    return METRICS["auroc"](store.cohort.targets[rows], found[:, 0])


@torch.no_grad()
def weight_of(modality: str) -> Callable[[Fit, Store], float]:
    """Return how much of the total weight a modality has, on average over held-out patients."""

    def measure(fit: Fit, store: Store) -> float:
        place = list(fit.model.encoders).index(modality)
        shares = []
        for batch in _batches(fit, store, "held_out"):
            weights = fit.model.fuse(batch.inputs).weights
            shares.append((weights[:, place] / weights.sum(1)).numpy())
        return float(np.concatenate(shares).mean())

    return torch.no_grad()(measure)


@torch.no_grad()
def probe(fit: Fit, store: Store, modality: str = "images") -> float:
    """Return the held-out AUROC of a linear probe, fitted on training patients, on one encoder's mean token."""
    from sklearn.linear_model import LogisticRegression

    found: dict[str, tuple[Any, Any]] = {}
    for split in ("train", "held_out"):
        vectors, targets = [], []
        for batch in _batches(fit, store, split):
            tokens = clean(fit.model.encode(batch.inputs)[modality])
            there = present(tokens.mask)
            vectors.append(masked_mean(tokens.values, tokens.mask)[there].numpy())
            targets.append(batch.target[there].numpy())
        found[split] = np.concatenate(vectors), np.concatenate(targets)
    model = LogisticRegression(C=0.1, max_iter=1000).fit(*found["train"])
    return METRICS["auroc"](found["held_out"][1], model.decision_function(found["held_out"][0]))


def _batches(fit: Fit, store: Store, split: str) -> Any:
    feeds = sources(fit.model, fit.preparations, store, (split,), CPU)
    return iterate_batches(feeds, store.cohort.targets, store.cohort.rows(split), 256, shuffle=None)


MEASURES: Mapping[str, Callable[[Fit, Store], float]] = {
    "auroc": auroc,
    "auroc_without_images": lambda fit, store: auroc(fit, store, without="images"),
    "weight_of_images": weight_of("images"),
    "probe_of_images": probe,
}


def verdict(mechanism: Sequence[float], control: Sequence[float]) -> str:
    """Say whether a claim is shown: the difference is above zero with every seed."""
    return "shown" if (np.subtract(mechanism, control) > 0).all() else "not shown"


def main() -> None:
    """Run every claim and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs") / "benchmark")
    parser.add_argument("--only", default="", help="claims whose text holds this")
    arguments = parser.parse_args()
    claims = [each for each in CLAIMS if arguments.only in each.text]
    sides = {repr(dict(side)): side for each in claims for side in (each.mechanism, each.control)}
    jobs = [
        {"settings": dict(side), "seed": seed, "folder": str(arguments.folder)}
        for side in sides.values()
        for seed in range(arguments.seeds)
    ]
    found = run_jobs(run, jobs, arguments.workers, "claims")
    values: dict[str, list[float]] = {key: [] for key in sides}
    for job, value in zip(jobs, found, strict=True):
        if isinstance(value, JobFailure):
            raise SystemExit(f"{job['settings']}: {value.reason}")
        values[repr(job["settings"])].append(value)
    print("| claim | measured | with | without | difference, each seed | |")
    print("|---|---|---:|---:|---|---|")
    for each in claims:
        mine, other = values[repr(dict(each.mechanism))], values[repr(dict(each.control))]
        gaps = ", ".join(f"{gap:+.3f}" for gap in np.subtract(mine, other))
        figures = f"{np.mean(mine):.3f} | {np.mean(other):.3f} | {gaps} | {verdict(mine, other)}"
        print(f"| {each.text} | {each.what} | {figures} |")


if __name__ == "__main__":
    main()
