"""Train PyHealth models as a search would, one after the other: run by pyhealth_peer.py with PyHealth's own Python.

Reads patients (one JSON object a line) and settings, trains one model a trial with PyHealth's dataset, loader and
trainer, and writes what each took and scored. It imports nothing of ehrfusion.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")

import logging

import torch
from pyhealth.datasets import create_sample_dataset, get_dataloader
from pyhealth.models import MLP, Transformer
from pyhealth.trainer import Trainer
from torch.utils.flop_counter import FlopCounterMode


def make_model(dataset: Any, settings: dict[str, Any], dropout: float) -> torch.nn.Module:
    """Return PyHealth's model that does the arithmetic of ours."""
    dim = settings["dim"]
    if settings["model"] == "bag":
        return MLP(dataset, embedding_dim=dim, hidden_dim=dim)
    return Transformer(dataset, embedding_dim=dim, heads=settings["heads"], dropout=dropout, num_layers=1)


def run_trial(datasets: dict[str, Any], whole: Any, settings: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """Train one model and return its seconds, score and held-out probabilities; data are prepared already."""
    wall, cpu = time.perf_counter(), time.process_time()
    torch.manual_seed(trial["seed"])
    model = make_model(whole, settings, trial["dropout"])
    loaders = {
        split: get_dataloader(each, settings["batch_size"] if split == "train" else 256, shuffle=split == "train")
        for split, each in datasets.items()
    }
    trainer = Trainer(model, metrics=["roc_auc"], enable_logging=False)
    trainer.train(
        loaders["train"],
        loaders["tuning"],
        epochs=settings["epochs"],
        optimizer_class=torch.optim.AdamW,
        optimizer_params={"lr": trial["lr"]},
        weight_decay=trial["weight_decay"],
        max_grad_norm=1.0,
        monitor="roc_auc",
    )
    score = trainer.evaluate(loaders["tuning"])["roc_auc"]
    spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    truth, probability, _ = trainer.inference(loaders["held_out"])
    batch = next(iter(loaders["train"]))
    with FlopCounterMode(display=False) as counter:
        model(**batch)["loss"].backward()
    return {**spent, "score": score, "held_out": probability.ravel().tolist(), "truth": truth.ravel().tolist()} | {
        "flops": counter.get_total_flops()
    }


def main() -> None:
    """Read, train, write."""
    folder = Path(sys.argv[1])
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    lines = (folder / "patients.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    schema = {"codes": "sequence", "notes": "sequence"}
    whole = create_sample_dataset(samples, schema, {"label": "binary"}, in_memory=settings["storage"] == "memory")
    splits = ("train", "tuning", "held_out")
    datasets = {
        split: whole.subset([i for i, sample in enumerate(samples) if sample["split"] == split]) for split in splits
    }
    found = [run_trial(datasets, whole, settings, trial) for trial in settings["trials"]]
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
